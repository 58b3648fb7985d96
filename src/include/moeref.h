/* Everything that a program may call. Who writes a backend includes moeref/plugin.h instead. */
#ifndef MOEREF_H
#define MOEREF_H

#include "moeref/arithmetic.h"
#include "moeref/backend.h"
#include "moeref/bench.h"
#include "moeref/call.h"
#include "moeref/case.h"
#include "moeref/check.h"
#include "moeref/cost.h"
#include "moeref/dtype.h"
#include "moeref/home.h"
#include "moeref/isolation.h"
#include "moeref/layer.h"
#include "moeref/loss.h"
#include "moeref/model.h"
#include "moeref/operator.h"
#include "moeref/plan.h"
#include "moeref/quant.h"
#include "moeref/recipe.h"
#include "moeref/reference.h"
#include "moeref/rng.h"
#include "moeref/roofline.h"
#include "moeref/safetensors.h"
#include "moeref/selftest.h"
#include "moeref/stage.h"
#include "moeref/status.h"
#include "moeref/suite.h"
#include "moeref/tensor.h"
#include "moeref/version.h"
#include "moeref/whole.h"

#endif
