/* The reference's arithmetic. Every file that includes this is compiled twice, for float64 and for
 * float32, with MOE_REAL naming the type and MOE_REAL_SUFFIX ending each external name. */
#ifndef MOE_REFERENCE_REAL_H
#define MOE_REFERENCE_REAL_H

#include "moeref/reference.h"

#include <math.h>

#ifndef MOE_REAL
#define MOE_REAL          double
#define MOE_REAL_SUFFIX   _f64
#define MOE_REAL_DTYPE    MOE_F64
#define MOE_REAL_FN(name) name
#endif

typedef MOE_REAL real;

#define MOE_REAL_JOIN2(name, suffix) name##suffix
#define MOE_REAL_JOIN(name, suffix)  MOE_REAL_JOIN2(name, suffix)
#define REAL(name)                   MOE_REAL_JOIN(name, MOE_REAL_SUFFIX)

#endif
