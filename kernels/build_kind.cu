#include "kernels/build_kind.h"

namespace wt {

bool kernels_look_for_races() {
#ifdef __SANITIZE_THREAD__
    return true;
#else
    return false;
#endif
}

}  // namespace wt
