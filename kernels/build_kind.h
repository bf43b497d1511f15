// How the kernels were compiled: with RACES=1 they alone are (the rest is an ordinary build's), so
// only they can tell.
#pragma once

namespace wt {

// Whether races, missing fences and bounds are looked for.
bool kernels_look_for_races();

}  // namespace wt
