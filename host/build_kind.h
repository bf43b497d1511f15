// Which build this is, for programs to say: bin/ leads to whichever was made last, and what is slow
// or finds faults in one does not in another.
#pragma once

#include <string>

namespace wt {

// "" for an ordinary build; "built with RACES=1: ..." and the like.
std::string build_kind();

// One line on standard error, "NAME: built with ...", where there is something to say.
void say_build_kind(const char* name);

}  // namespace wt
