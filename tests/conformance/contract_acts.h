/* Acts of the backend that breaks its contract. */
#ifndef MOE_TESTS_CONTRACT_ACTS_H
#define MOE_TESTS_CONTRACT_ACTS_H

/* Does what `act` names, if it is the name of one. */
void contract_perform(const char *act);

#endif
