// As host/precompiled.h, for the tests.
#include "host/precompiled.h"

#include <doctest/doctest.h>
