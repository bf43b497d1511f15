// ILSVRC2012_devkit_t12.tar.gz: which class each validation image is of, and what classes are
// called.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wt {

struct IlsvrcDevkit {
    struct Synset {
        // 1 to 1000 are the challenge's classes: not in the order of their WordNet ids
        int id = 0;
        std::string wnid, words;  // "n01440764", "tench, Tinca tinca"
    };
    std::vector<Synset> synsets;  // by id, the challenge's only
    std::vector<int> validation;  // the id of image i + 1
};

// Throws Error, with `path` in it.
IlsvrcDevkit read_ilsvrc_devkit(const std::string& path);

// The synsets in the bytes of meta.mat: a MATLAB 5 file with one array of structs, whose fields
// ILSVRC2012_ID, WNID and words are looked at. Returns "" or, in words, what is wrong.
std::string parse_synsets(const std::string& mat, std::vector<IlsvrcDevkit::Synset>& synsets);

}  // namespace wt
