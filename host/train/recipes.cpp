#include "host/train/recipes.h"

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "host/cuda/check.h"
#include "host/cuda/nearest.h"
#include "host/cuda/regular_file.h"
#include "host/printable.h"

namespace wt {

namespace {

namespace fs = std::filesystem;

// Longer lines are of no recipe.
constexpr size_t kLongestLine = 1000;

// data/recipes in a folder above the program; empty where there is none.
fs::path recipes_folder() {
    std::error_code failed;
    fs::path at = fs::read_symlink("/proc/self/exe", failed).parent_path();
    for (; !at.empty(); at = at.parent_path()) {
        if (fs::is_directory(at / "data" / "recipes", failed)) return at / "data" / "recipes";
        if (at == at.root_path()) break;
    }
    return {};
}

// Without its comment, and without blanks at both ends.
std::string content_of(std::string line) {
    for (size_t i = 0; i < line.size(); ++i)
        if (line[i] == '#' && (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t')) line.resize(i);
    const char* const blanks = " \t\r";
    const size_t first = line.find_first_not_of(blanks);
    if (first == std::string::npos) return {};
    return line.substr(first, line.find_last_not_of(blanks) + 1 - first);
}

}  // namespace

std::vector<std::string> recipe_names() {
    std::vector<std::string> names;
    const fs::path folder = recipes_folder();
    if (folder.empty()) return names;
    std::error_code failed;
    for (const auto& entry : fs::directory_iterator(folder, failed))
        if (entry.is_regular_file(failed)) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
}

std::string recipe_names_text() {
    std::string text;
    for (const std::string& name : recipe_names()) text += (text.empty() ? "" : ", ") + name;
    return text.empty() ? "none were found" : text;
}

RecipeFile read_recipe(const std::string& name) {
    const std::vector<std::string> names = recipe_names();
    RecipeFile recipe;
    std::error_code failed;
    if (std::find(names.begin(), names.end(), name) != names.end())
        recipe.path = (recipes_folder() / name).string();
    else if (!name.empty() && fs::exists(name, failed))
        recipe.path = name;
    else if (names.empty())
        throw UsageError("--recipe " + name +
                         ": no such file, and no folder data/recipes above the program");
    else
        throw UsageError("--recipe: " + unknown_name("recipe", name, names) +
                         "; or give a file's path");
    std::istringstream lines(read_whole(recipe.path));
    int number = 0;
    for (std::string line; std::getline(lines, line);) {
        ++number;
        const std::string text = content_of(line.substr(0, kLongestLine + 1));
        if (text.empty()) continue;
        const std::string where = "recipe " + recipe.path + ", line " + std::to_string(number);
        if (line.size() > kLongestLine || !text.starts_with("--"))
            throw UsageError(where + ": '" + printable(text.substr(0, 60)) +
                             "': must be a flag and its value, as in --lr 0.01");
        const size_t blank = text.find_first_of(" \t=");
        const std::string flag = text.substr(0, blank);
        for (const char* other : {"--recipe", "--resume"})
            if (flag == other) throw UsageError(where + ": " + flag + " is for the command line");
        recipe.flags.push_back(flag);
        if (blank != std::string::npos)
            recipe.flags.push_back(text.substr(text.find_first_not_of(" \t=", blank)));
    }
    return recipe;
}

}  // namespace wt
