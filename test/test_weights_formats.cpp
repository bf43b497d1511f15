// Weights of other programs and for them: formats that are recognised, the export, predictions.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "host/cuda/check.h"
#include "host/train/export_weights.h"
#include "host/train/foreign_weights.h"
#include "host/train/predictions.h"
#include "test/temp_dir.h"
#include "test/weights_fixture.h"

using namespace wt;
using namespace wt::test;

TEST_CASE("weights: files of PyTorch, NumPy, Caffe and HDF5 are recognised, by content or name") {
    const TempDir s;
    const auto told = [&](const std::string& name, const std::string& content) {
        std::ofstream(s / name, std::ios::binary) << content;
        return how_to_convert(s / name);
    };
    const auto zip = [](const std::string& first) {
        std::string head("PK\3\4", 4);
        head.append(22, '\0');
        head += static_cast<char>(first.size());
        head.append(3, '\0');
        return head + first + "...";
    };
    CHECK(
        told("a.bin", zip("archive/data.pkl"))
            .find(
                "is a file of PyTorch, and weights are read from safetensors files: python3 -c '") !=
        std::string::npos);
    CHECK(told("b.bin", std::string("\x80\x02\x8a\x0a", 4)).find("file of PyTorch") !=
          std::string::npos);
    CHECK(told("c.pth", "?").find("file of PyTorch") != std::string::npos);
    CHECK(told("d.bin", zip("conv1.weight.npy")).find("is a file of NumPy") != std::string::npos);
    CHECK(told("e.npy", "\x93NUMPY\x01").find("one array of NumPy") != std::string::npos);
    CHECK(told("f.bin", "\n\7AlexNet\x12\x05").find("is a file of Caffe") != std::string::npos);
    CHECK(told("g.caffemodel", "?").find("is a file of Caffe") != std::string::npos);
    CHECK(told("h.bin", "\x89HDF\r\n\x1a\n").find("HDF5") != std::string::npos);
    const std::string quotes = told("it's \"1\".pth", "?");
    CHECK(quotes.find("it'\\''s \\\"1\\\".safetensors\") makes one") == std::string::npos);
    CHECK(quotes.find("it'\\''s \\\"1\\\".safetensors\")'") != std::string::npos);
    CHECK(told("i.bin", "nothing that is known") == "");
    CHECK(told("j.bin", "") == "");
    CHECK(how_to_convert(s / "not there.pth") == "");
    auto tensors = random_tensors(small_owt(), Naming::own);
    write_tensors(s / "k.pth", tensors);  // what it is counts, not what it is called
    CHECK(how_to_convert(s / "k.pth") == "");
    for (const char* name : {"a.bin", "d.bin", "f.bin", "h.bin"})
        CHECK(how_to_convert(s / name).find('\n') == std::string::npos);
}

TEST_CASE("weights: an export of owt has torchvision's names and the same bits, and comes back") {
    const TempDir s;
    const NetSpec net = make_net("owt", {.classes = 3});
    std::vector<std::vector<float>> values;
    std::vector<NamedTensor> tensors;
    for (const Param& p : params_of(net)) {
        values.emplace_back(p.count());
        for (size_t i = 0; i < values.back().size(); ++i)
            values.back()[i] =
                static_cast<float>(static_cast<int32_t>(i * 2654435761u + p.rows)) * 0x1p-36f;
        tensors.push_back({p.name, p.shape, values.back().data()});
    }
    write_safetensors(s / "own.safetensors", tensors);
    const WeightsMeaning meaning{{102, 51, 25.5f}, {51, 51, 51}, {"cat", "dog", "owl"}};
    CHECK(
        export_torchvision(SafetensorsFile::open(s / "own.safetensors"), meaning,
                           s / "out.safetensors") ==
        s / "out.safetensors" +
            ": 3 classes, torchvision's names; its images are normalised with mean=[0.4, 0.2, 0.1], std=[0.2, 0.2, 0.2]");
    const auto out = SafetensorsFile::open(s / "out.safetensors");
    CHECK(out.names().size() == tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
        const std::string name = torchvision_name(tensors[i].name);
        CHECK(out.dtype(name) == "F32");
        CHECK(out.shape(name) == tensors[i].shape);
        CHECK((out.read(name) == values[i]));
    }
    CHECK(out.metadata().at("format") == "pt");
    CHECK(out.metadata().at("classes") == R"(["cat","dog","owl"])");
    CHECK(out.metadata().at("normalisation").find("\"mean\":[102.0,51.0,25.5]") !=
          std::string::npos);
    // What torchvision's names have is taken too: a copy.
    export_torchvision(out, meaning, s / "again.safetensors");
    CHECK((SafetensorsFile::open(s / "again.safetensors").read("features.3.weight") == values[2]));

    CHECK(
        export_torchvision(SafetensorsFile::open(s / "own.safetensors"), {}, s / "bare.safetensors")
            .ends_with("how its images are normalised is not known"));
    CHECK_FALSE(SafetensorsFile::open(s / "bare.safetensors").metadata().contains("normalisation"));
    auto small = random_tensors(small_owt(), Naming::own);
    write_tensors(s / "small.safetensors", small);
    CHECK_THROWS_WITH_AS(export_torchvision(SafetensorsFile::open(s / "small.safetensors"), {},
                                            s / "no.safetensors"),
                         doctest::Contains("weights of another network"), Error);
    CHECK_FALSE(std::filesystem::exists(s / "no.safetensors"));
}

TEST_CASE("predictions: logits as .npy, the likeliest classes as .csv") {
    const TempDir s;
    const std::vector<std::string> classes = {"cat", "dog, \"big\"", "owl"};
    const float rows[2][3] = {{0, 1, 2}, {5, 5, -5}};
    for (const char* name : {"p.npy", "p.csv"}) {
        Predictions p(s / name, classes);
        p.add("a,b.jpg", 2, rows[0]);
        p.add("broken.jpg", -1, rows[0]);
        p.add("c.jpg", 0, rows[1]);
        p.write();
    }
    const std::string npy = slurp(s / "p.npy");
    CHECK(npy.substr(0, 8) == std::string("\x93NUMPY\x01\x00", 8));
    const size_t header =
        10 + static_cast<unsigned char>(npy[8]) + 256u * static_cast<unsigned char>(npy[9]);
    CHECK(header % 64 == 0);
    CHECK(npy.find("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3), }") == 10);
    REQUIRE(npy.size() == header + 9 * 4);
    float got[9];
    std::memcpy(got, npy.data() + header, sizeof got);
    CHECK((got[0] == 0 && got[2] == 2 && got[6] == 5 && got[8] == -5));
    CHECK((std::isnan(got[3]) && std::isnan(got[5])));
    // Of 0, 1, 2: e^k / (1 + e + e^2).
    CHECK(slurp(s / "p.csv") ==
          "image,class,top1,probability1,top2,probability2,top3,probability3\n"
          "\"a,b.jpg\",owl,owl,0.665241,\"dog, \"\"big\"\"\",0.244728,cat,0.090031\n"
          "c.jpg,cat,cat,0.499989,\"dog, \"\"big\"\"\",0.499989,owl,0.000023\n");
    CHECK_THROWS_WITH_AS(Predictions("p.txt", classes),
                         doctest::Contains("must be a file that ends in .npy (logits) or .csv"),
                         UsageError);
}
