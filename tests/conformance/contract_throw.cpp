// An exception that leaves a slot: C has no way to catch it.
#include <stdexcept>

extern "C" void contract_throw();
void contract_throw() {
    throw std::runtime_error("nobody catches me");
}
