// Recipes as files: bin/train --recipe.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>

#include "host/cuda/check.h"
#include "host/json.h"
#include "host/train/recipes.h"
#include "test/training.h"

using namespace wt;
using namespace wt::test;

namespace {

void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

// The first step of a run's log.
Json first_step(const std::string& folder) {
    std::ifstream log(folder + "/metrics.jsonl");
    for (std::string line; std::getline(log, line);) {
        Json j = parse_json(line);
        if (j.at("kind") == "step") return j;
    }
    return {};
}

}  // namespace

TEST_CASE("recipes: the project's own are found, listed and understood") {
    const auto names = recipe_names();
    for (const char* wanted : {"alexnet2012", "cifar", "owt", "torchvision"})
        CHECK(std::find(names.begin(), names.end(), wanted) != names.end());
    const TempDir s;
    const Result help = run(s, program("train") + " --help");
    CHECK(help.out.find("--recipe") != std::string::npos);
    for (const std::string& name : names) {
        INFO(name);
        CHECK(help.out.find(name) != std::string::npos);
        const RecipeFile recipe = read_recipe(name);
        CHECK(recipe.flags.size() >= 10);
        // Flags that bin/train takes, each once, of a network that there is.
        const Result r = run(s, program("train") + " --recipe " + name + " --help");
        CHECK(r.status == 0);
        for (size_t i = 0; i < recipe.flags.size(); ++i)
            if (recipe.flags[i].starts_with("--"))
                CHECK(std::count(recipe.flags.begin(), recipe.flags.end(), recipe.flags[i]) == 1);
    }
}

TEST_CASE("recipes: the paper's values") {
    const auto value = [](const char* recipe, const char* flag) {
        const auto flags = read_recipe(recipe).flags;
        const auto at = std::find(flags.begin(), flags.end(), flag);
        return at == flags.end() ? std::string() : at[1];
    };
    CHECK(value("alexnet2012", "--net") == "alexnet2012");
    CHECK(value("alexnet2012", "--batch") == "128");
    CHECK(value("alexnet2012", "--epochs") == "90");
    CHECK(value("alexnet2012", "--lr") == "0.01");
    CHECK(value("alexnet2012", "--lr-policy") == "plateau");
    CHECK(value("alexnet2012", "--weight-decay") == "0.0005");
    CHECK(value("torchvision", "--lr-policy") == "step:30,60");
    CHECK(value("torchvision", "--weight-decay") == "0.0001");
    CHECK(value("owt", "--fc-update") == "per-pass");
}

TEST_CASE("recipes: a file's flags are the command line's, which win") {
    const TempDir s;
    write(s / "mine",
          "# a comment\n\n--net mini\n--data synthetic:10:40   # another\n"
          "  --batch\t4\n--lr=0.002\n--lr-policy constant\n--steps 3\n");
    const RecipeFile recipe = read_recipe(s / "mine");
    CHECK(recipe.flags == std::vector<std::string>{"--net", "mini", "--data", "synthetic:10:40",
                                                   "--batch", "4", "--lr", "0.002", "--lr-policy",
                                                   "constant", "--steps", "3"});
    REQUIRE(run(s, program("train") + " --recipe mine --gpus 0 --out a").status == 0);
    CHECK(first_step(s / "a").at("lr") == 0.002);
    // Before the recipe or behind it: what is typed wins.
    REQUIRE(
        run(s, program("train") + " --lr 0.003 --recipe=mine --steps 2 --gpus 0 --out b").status ==
        0);
    CHECK(first_step(s / "b").at("lr").get<double>() == doctest::Approx(0.003));
    // The run goes on when the file is gone, as it began.
    std::filesystem::remove(s / "mine");
    const Result on = run(s, program("train") + " --resume b --steps 3 --gpus 0");
    INFO(on.err);
    CHECK(on.status == 0);
    REQUIRE(run(s, program("train") +
                       " --net mini --data synthetic:10:40 --batch 4 --lr 0.003 --lr-policy "
                       "constant --steps 3 --gpus 0 --out c")
                .status == 0);
    CHECK(same_tensors(s / "b" + "/checkpoint.safetensors", s / "c" + "/checkpoint.safetensors"));
    // The command that is kept is the one that was typed.
    CHECK(run(s, program("summary") + " b/checkpoint.safetensors").out.find("--resume b") !=
          std::string::npos);
}

TEST_CASE("recipes: what is wrong is one line") {
    const TempDir s;
    const std::string train = program("train") + " --recipe ";
    check_one_line(run(s, train + "torchvison"), 2,
                   "unknown recipe 'torchvison': must be one of alexnet2012, cifar, owt, "
                   "torchvision; nearest is torchvision; or give a file's path");
    check_one_line(run(s, train + "cifar --resume runs/x"), 2, "--resume goes on with one");
    check_one_line(run(s, program("train") + " --recipe"), 2, "--recipe");
    check_one_line(run(s, train + "."), 1, "cannot read .");
    write(s / "a", "--net mini\nlr 0.01\n");
    check_one_line(run(s, train + "a"), 2, "recipe a, line 2: 'lr 0.01': must be a flag");
    write(s / "b", "--recipe cifar\n");
    check_one_line(run(s, train + "b"), 2, "recipe b, line 1: --recipe is for the command line");
    write(s / "c", "--net mini\n--lrr 0.01\n");
    check_one_line(run(s, train + "c"), 2, "recipe c: ");
    write(s / "d", "--lr ten\n");
    check_one_line(run(s, train + "d"), 2, "recipe d: ");
    write(s / "e", "--lr " + std::string(5000, '1') + "\n");
    check_one_line(run(s, train + "e"), 2, "recipe e, line 1: ");
}
