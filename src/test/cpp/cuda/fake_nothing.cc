// A library of CUDA that nothing is called of: its name is there, and the version of its symbols.
#include "fake_driver.h"

TACO4J_FAKE_API int taco4j_fake_nothing() { return 0; }
