// Recipes as files (bin/train --recipe): how a paper, or another program, trains, as flags.
//
// A recipe has a flag a line with its value behind a blank, "--lr 0.01"; "#" begins a comment, at a
// line's start or behind a blank. The project's own are in data/recipes, which is looked for in
// the folders above the program's file.
#pragma once

#include <string>
#include <vector>

namespace wt {

struct RecipeFile {
    std::string path;
    std::vector<std::string> flags;  // as a command line has them: "--lr", "0.01"
};

// The project's own, in order; empty where their folder is not found.
std::vector<std::string> recipe_names();
// "cifar, owt", or "none were found".
std::string recipe_names_text();

// `name`: one of them, or the path of a file. Throws UsageError, with one line, for a name that is
// neither and for a line that is no flag.
RecipeFile read_recipe(const std::string& name);

}  // namespace wt
