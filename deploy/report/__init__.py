"""Reports of a run: data, text, JSON, HTML and the comparison of two.

from deploy.report.report import Report
from deploy.report.text import to_text
from deploy.report.html import to_html
from deploy.report.diff import diff
"""
