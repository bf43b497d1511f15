// What a run's page shows of single images, as bin/train leaves it in the run's folder:
// pictures.json, written after an evaluation. Pictures are addresses (draw::png_address,
// draw::jpeg_address), so that the page only has to take them over.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wt {

struct RunPictures {
    struct Image {
        std::string name, label, answer;  // the last: the likeliest class
        double probability = 0;           // of its class
        std::string picture;
    };
    // What a layer makes of the image above it: some of its channels, each on its own scale.
    struct Maps {
        std::string layer;
        int height = 0, width = 0, channels = 0, shown = 0;
        std::string picture;
    };
    int64_t step = -1;  // negative: there are none
    std::string split;
    std::vector<Image> best, worst;
    Image through;  // the image whose activations the maps are
    std::vector<Maps> maps;
    std::vector<std::string> classes;  // of the confusion
    std::vector<int64_t> confusion;    // classes x classes: class by row, answer by column
};

std::string pictures_path(const std::string& folder);

// FOLDER/pictures.json, written aside and renamed.
void write_pictures(const std::string& folder, const RunPictures& pictures);

// None where there is no such file, or it is not understood. What is no picture's address is left
// out.
RunPictures read_pictures(const std::string& folder);

// Their sections of the run's page, and the style of those.
std::string pictures_section(const RunPictures& pictures);
extern const char* const kPicturesStyle;

}  // namespace wt
