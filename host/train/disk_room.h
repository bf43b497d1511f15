// Whether a run's next checkpoints have room on the disk: said before one fails.
#pragma once

#include <cstdint>
#include <string>

#include "host/parallel/layout.h"

namespace wt {

// A checkpoint's size: weights and momentum in fp32, and what describes them.
uint64_t checkpoint_bytes(const Layout& layout);

// Bytes that a user may still write into a folder; negative where nobody knows.
int64_t free_bytes(const std::string& folder);

// How full the disk is, for a run that is about to write another checkpoint of this size beside
// those that there are.
enum class Room { enough, little, none };
Room room_for(int64_t free, uint64_t checkpoint);

// "" for enough; else one line: what is free in the folder, what is needed, what to do.
std::string room_text(Room room, const std::string& folder, int64_t free, uint64_t checkpoint);

}  // namespace wt
