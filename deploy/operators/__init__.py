"""What is known of each operator: one row in ``table.OPERATORS``, functions by family.

An operator is added by one row and, where no function of its family fits, one function.
"""

from deploy.operators.check import check_operators, check_shapes
from deploy.operators.row import InC, OperatorRow, Site
from deploy.operators.table import OPERATORS

__all__ = ["OPERATORS", "InC", "OperatorRow", "Site", "check_operators", "check_shapes"]
