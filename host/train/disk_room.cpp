#include "host/train/disk_room.h"

#include <filesystem>

#include "host/cuda/device.h"

namespace wt {

uint64_t checkpoint_bytes(const Layout& layout) {
    constexpr uint64_t kHeader = 64 << 10;
    uint64_t bytes = kHeader;
    for (size_t i = 0; i < layout.params.size(); ++i)
        bytes += static_cast<uint64_t>(layout.params[i].count()) *
                 (layout.frozen(static_cast<int>(i)) ? 4 : 8);
    return bytes;
}

int64_t free_bytes(const std::string& folder) {
    std::error_code failed;
    const auto space = std::filesystem::space(folder, failed);
    return failed ? -1 : static_cast<int64_t>(space.available);
}

// A checkpoint is written aside before the one that it replaces goes, and the best one stays.
Room room_for(int64_t free, uint64_t checkpoint) {
    if (free < 0) return Room::enough;
    if (static_cast<uint64_t>(free) < checkpoint) return Room::none;
    return static_cast<uint64_t>(free) < 3 * checkpoint ? Room::little : Room::enough;
}

std::string room_text(Room room, const std::string& folder, int64_t free, uint64_t checkpoint) {
    if (room == Room::enough) return "";
    const std::string has = "the disk of " + folder + " has " +
                            human_bytes(static_cast<size_t>(free)) +
                            " free, and a checkpoint takes " + human_bytes(checkpoint);
    return room == Room::none
               ? has + ": the next one will fail, and the run end, unless room is made"
               : has + ": make room before it is full";
}

}  // namespace wt
