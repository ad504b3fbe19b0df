/* Makes what the rows that came allow. */
static void advance(void) {
${first_region}
}

${name}_status ${name}_begin(void) {
  if (FMC_NO_ARENA) {
    return ${NAME}_NULL_POINTER;
  }
  memset(&FMC_STATE, 0, sizeof(FMC_STATE));
  FMC_STATE.fed = 1;
  advance();
  return ${NAME}_OK;
}

${name}_status ${name}_feed_row(const ${type} *row) {
  if (!row) {
    return ${NAME}_NULL_POINTER;
  }
  if (FMC_STATE.fed == 0) {
    return ${NAME}_NOT_BEGUN;
  }
  if (FMC_STATE.fed > ${rows}) {
    return ${NAME}_TOO_MANY_ROWS;
  }
  FMC_STATE.fed++;
  if (${busy}) {
    take_row(row);
    advance();
  }
  return ${NAME}_OK;
}

${name}_status ${name}_finish(${output_parameters}) {
  if (${output_null_checks}) {
    return ${NAME}_NULL_POINTER;
  }
  if (FMC_STATE.fed == 0) {
    return ${NAME}_NOT_BEGUN;
  }
  if (FMC_STATE.fed <= ${rows}) {
    return ${NAME}_ROWS_MISSING;
  }
${regions}
${copies_out}
  FMC_STATE.fed = 0;
  return ${NAME}_OK;
}
