// The clocks a GPU runs at, from its management library where there is one (libnvidia-ml comes with
// the driver).
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace wt::bench {

class Clocks {
public:
    explicit Clocks(int device);  // finds the library; never throws for its absence
    ~Clocks();
    Clocks(const Clocks&) = delete;

    struct Mhz {
        int sm = 0, memory = 0;
    };
    std::optional<Mhz> now() const;
    std::optional<Mhz> most() const;  // what the device can do
    std::string driver() const;       // "" when not known

private:
    struct Library;
    std::unique_ptr<Library> library_;
};

}  // namespace wt::bench
