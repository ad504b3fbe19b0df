${name}_status ${name}_run(${parameters}) {
  if (FMC_NO_ARENA || ${null_checks}) {
    return ${NAME}_NULL_POINTER;
  }
${copies_in}
${regions}
${copies_out}
  return ${NAME}_OK;
}
