// Checkpoint files: what is written is read back bit for bit, by others too; every fault of a file
// is an error that names it; a write that fails leaves the old file.
#include "host/cuda/check.h"
#include "host/train/atomic_file.h"
#include "host/train/safetensors.h"
#include "test/temp_dir.h"

#include <doctest/doctest.h>

#include <bit>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <limits>
#include <sys/resource.h>
#include <unistd.h>

using wt::NamedTensor;
using wt::SafetensorsFile;
using wt::test::message_of;
using wt::test::slurp;
using wt::test::spit;
using wt::test::TempDir;

namespace {

// A file of this header and this many bytes 0, 1, 2, ... of data.
std::string file_of(const std::string& header, size_t data) {
    const uint64_t n = header.size();
    std::string s(reinterpret_cast<const char*>(&n), sizeof n);
    s += header;
    for (size_t i = 0; i < data; ++i) s += static_cast<char>(i);
    return s;
}

std::string opening(const std::string& path, const std::string& bytes) {
    spit(path, bytes);
    return message_of([&] { SafetensorsFile::open(path); });
}

// The header of two F32 tensors of one element at these offsets.
std::string two(const char* a, int a0, int a1, const char* b, int b0, int b1) {
    const auto one = [](const char* name, int from, int to) {
        return "\"" + std::string(name) + R"(":{"dtype":"F32","shape":[1],"data_offsets":[)" +
               std::to_string(from) + "," + std::to_string(to) + "]}";
    };
    return "{" + one(a, a0, a1) + "," + one(b, b0, b1) + "}";
}

bool contains(const std::string& s, const std::string& part) {
    return s.find(part) != std::string::npos;
}

// No file grows beyond `bytes` while it lives: stands for a full disk, where none can be mounted.
struct FileSizeLimit {
    rlimit before;
    void (*handler)(int);
    explicit FileSizeLimit(rlim_t bytes) {
        REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
        handler = std::signal(SIGXFSZ, SIG_IGN);
        const rlimit less = {bytes, before.rlim_max};
        REQUIRE(setrlimit(RLIMIT_FSIZE, &less) == 0);
    }
    ~FileSizeLimit() {
        setrlimit(RLIMIT_FSIZE, &before);
        std::signal(SIGXFSZ, handler);
    }
};

}  // namespace

TEST_CASE("safetensors: written and read back") {
    const TempDir dir;
    const std::string path = dir / "w.safetensors";
    const float nan = std::bit_cast<float>(0x7fc12345u);
    const std::vector<float> a = {1, -0.0f, 1e-42f, nan, std::numeric_limits<float>::infinity(), 6};
    const std::vector<float> b = {42};
    const std::vector<NamedTensor> tensors = {
        {"conv1.weight", {1, 2, 3, 1}, a.data()}, {"empty", {0, 5}, nullptr}, {"b", {}, b.data()}};
    const std::map<std::string, std::string> metadata = {{"step", "17"},
                                                         {"net \"x\"", "mini\n\xc3\xa9"}};
    wt::write_safetensors(path, tensors, metadata);

    const auto f = SafetensorsFile::open(path);
    CHECK(f.names() == std::vector<std::string>{"conv1.weight", "empty", "b"});
    CHECK(f.metadata() == metadata);
    CHECK(f.shape("conv1.weight") == std::vector<int64_t>{1, 2, 3, 1});
    const auto back = f.read("conv1.weight");
    REQUIRE(back.size() == a.size());
    CHECK(std::memcmp(back.data(), a.data(), a.size() * sizeof(float)) == 0);
    CHECK(f.read("empty").empty());
    CHECK(f.read("b") == b);
    CHECK(f.has("b"));
    CHECK(!f.has("c"));
    CHECK_FALSE(std::filesystem::exists(path + ".tmp"));

    CHECK(message_of([&] { f.read("conv1.weigth"); }) ==
          path + ": no tensor conv1.weigth; nearest is conv1.weight");
    const std::vector<int64_t> other = {6};
    CHECK(contains(message_of([&] { f.read("conv1.weight", other); }),
                   "has the shape [1,2,3,1], needed is [6]"));

    // The layout that other readers rely on.
    const std::string bytes = slurp(path);
    uint64_t n = 0;
    std::memcpy(&n, bytes.data(), 8);
    CHECK(n % 8 == 0);
    CHECK(bytes.size() == 8 + n + 28);
    CHECK(bytes[8] == '{');
    CHECK(contains(bytes.substr(8, n),
                   R"("conv1.weight":{"dtype":"F32","shape":[1,2,3,1],"data_offsets":[0,24]})"));

    wt::write_safetensors(path, {});
    CHECK(SafetensorsFile::open(path).names().empty());
}

TEST_CASE("safetensors: half types") {
    const TempDir dir;
    const std::string path = dir / "h.safetensors";
    std::string s = file_of(R"({"h":{"dtype":"F16","shape":[7],"data_offsets":[0,14]},)"
                            R"("b":{"dtype":"BF16","shape":[2],"data_offsets":[14,18]},)"
                            R"("i":{"dtype":"I64","shape":[1],"data_offsets":[18,26]}})",
                            0);
    const uint16_t h[] = {0x3c00, 0xc000, 0x0001, 0x83ff, 0x7bff, 0xfc00, 0x0400},
                   b[] = {0x3f80, 0xc2f7};
    s.append(reinterpret_cast<const char*>(h), sizeof h)
        .append(reinterpret_cast<const char*>(b), sizeof b);
    s.append(8, '\0');
    spit(path, s);
    const auto f = SafetensorsFile::open(path);
    CHECK(f.read("h") == std::vector<float>{1, -2, 0x1p-24f, -0x1.ff8p-15f, 65504,
                                            -std::numeric_limits<float>::infinity(), 0x1p-14f});
    CHECK(f.read("b") == std::vector<float>{1, -123.5f});
    CHECK(message_of([&] { f.read("i"); }) ==
          path + ": tensor i has dtype I64: must be F32, F16 or BF16");

    // More than one piece of conversion.
    const size_t n = 100'003;
    s = file_of(R"({"x":{"dtype":"BF16","shape":[100003],"data_offsets":[0,200006]}})", 0);
    for (size_t i = 0; i < n; ++i) {
        const uint16_t v = std::bit_cast<uint32_t>(static_cast<float>(i & 127)) >> 16;
        s.append(reinterpret_cast<const char*>(&v), 2);
    }
    spit(path, s);
    const auto x = SafetensorsFile::open(path).read("x");
    REQUIRE(x.size() == n);
    size_t wrong = 0;
    for (size_t i = 0; i < n; ++i) wrong += x[i] != static_cast<float>(i & 127);
    CHECK(wrong == 0);
}

TEST_CASE("safetensors: cut anywhere") {
    const TempDir dir;
    const std::string path = dir / "w.safetensors";
    const std::vector<float> a(5, 1.5f);
    const std::vector<NamedTensor> tensors = {{"a", {5}, a.data()}, {"b", {2}, a.data()}};
    wt::write_safetensors(path, tensors, {{"k", "v"}});
    const std::string whole = slurp(path);
    for (size_t n = 0; n < whole.size(); ++n) {
        const std::string m = opening(path, whole.substr(0, n));
        CAPTURE(n);
        CHECK(contains(m, path));
        CHECK(contains(m, "truncated"));
        CHECK(!contains(m, "\n"));
    }
    CHECK(contains(opening(path, whole.substr(0, whole.size() - 1)), "tensor b"));
    CHECK(contains(opening(path, whole + "x"), "1 bytes after the last tensor"));
    CHECK(opening(path, whole) == "");

    // Replaced after it was opened, by a file of the same size: what was opened is read.
    const auto opened = SafetensorsFile::open(path);
    const std::vector<float> other(5, 2.5f);
    const std::vector<NamedTensor> others = {{"a", {5}, other.data()}, {"b", {2}, other.data()}};
    wt::write_safetensors(path, others, {{"k", "v"}});
    CHECK(opened.read("a") == a);
    CHECK(SafetensorsFile::open(path).read("a") == other);
    spit(path, whole);

    // Cut after it was opened.
    const auto f = SafetensorsFile::open(path);
    spit(path, whole.substr(0, whole.size() - 4));
    CHECK(contains(message_of([&] { f.read("a"); }), "changed while it was read"));
}

TEST_CASE("safetensors: bad headers") {
    const TempDir dir;
    const std::string path = dir / "w.safetensors";
    struct Bad {
        std::string header;
        size_t data;
        const char* says;
    };
    const Bad all[] = {
        {"", 0, "not JSON"},
        {"{", 0, "not JSON"},
        {"{} x", 0, "not JSON"},
        {"[]", 0, "not a JSON object"},
        {R"({"a":1})", 0, "tensor a: needs dtype"},
        {R"({"a":{"dtype":"F32","shape":[1]}})", 4, "tensor a: needs dtype"},
        {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "tensor a: needs dtype"},
        {R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}})", 4, "tensor a: needs dtype"},
        {R"({"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", 4,
         "tensor a: unknown dtype 'F33'"},
        {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "tensor a: its shape"},
        {R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4, "tensor a: its shape"},
        {R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", 4,
         "tensor a: its shape"},
        {R"({"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}})", 4, "tensor a: its shape"},
        {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", 4,
         "tensor a: its data_offsets"},
        {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":["0",4]}})", 4,
         "tensor a: its data_offsets"},
        {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4,
         "tensor a: data_offsets 0 to 4 do not hold"},
        {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4,
         "tensor a: data_offsets 4 to 0 do not hold"},
        {R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0,4]}})", 4, "tensor a: data_offsets"},
        // 2^62 floats and 2^32 x 2^32 floats: sizes that wrap to small ones.
        {R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0,
         "do not hold"},
        {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
         "do not hold"},
        {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4, "tensor a: truncated"},
        {two("a", 0, 4, "b", 2, 6), 6, "tensor b: overlaps"},
        {two("a", 0, 4, "b", 0, 4), 4, "overlaps"},
        {two("a", 0, 4, "b", 8, 12), 12, "tensor b: bytes before it"},
        {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8,
         "tensor a: bytes before it"},
        {two("a", 0, 4, "a", 4, 8), 8, "'a' is there twice"},
        {R"({"__metadata__":[]})", 0, "__metadata__ is not an object"},
        {R"({"__metadata__":{"step":3}})", 0, "__metadata__ 'step' is not a text"},
    };
    for (const Bad& b : all) {
        CAPTURE(b.header);
        const std::string m = opening(path, file_of(b.header, b.data));
        CAPTURE(m);
        CHECK(contains(m, path));
        CHECK(contains(m, b.says));
        CHECK(!contains(m, "\n"));
    }
    CHECK(opening(path, file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}   )",
                                4)) == "");

    std::string s = file_of("{}", 0);
    for (const uint64_t n : {uint64_t{3}, uint64_t{100'000'001}, ~uint64_t{0}, uint64_t{1} << 63}) {
        std::memcpy(s.data(), &n, 8);
        CAPTURE(n);
        CHECK(contains(opening(path, s), n == 3 ? "truncated" : "out of range"));
    }
    CHECK(contains(message_of([&] { SafetensorsFile::open(dir / "none"); }), "No such file"));
    CHECK(contains(message_of([&] { SafetensorsFile::open(dir.path()); }), "not a regular file"));
}

TEST_CASE("safetensors: a full disk keeps the old file") {
    const TempDir dir;
    const std::string path = dir / "checkpoint.safetensors";
    const std::vector<float> a(1000, 1), b(100'000, 2);
    const std::vector<NamedTensor> small = {{"a", {1000}, a.data()}},
                                   large = {{"b", {100'000}, b.data()}};
    {
        FileSizeLimit limit(8192);
        const std::string m = message_of([&] { wt::write_safetensors(path, large); });
        CHECK(m.starts_with("cannot write " + path + ": "));
        CHECK(!contains(m, "previous"));
        CHECK(std::filesystem::is_empty(dir.path()));
    }
    wt::write_safetensors(path, small);
    const std::string before = slurp(path);
    {
        FileSizeLimit limit(8192);
        const std::string m = message_of([&] { wt::write_safetensors(path, large); });
        CAPTURE(m);
        CHECK(m.starts_with("cannot write " + path + ": File too large (4000"));
        CHECK(m.ends_with(" bytes needed); the previous checkpoint is kept"));
    }
    CHECK(slurp(path) == before);
    CHECK_FALSE(std::filesystem::exists(path + ".tmp"));
    wt::write_safetensors(path, large);
    CHECK(SafetensorsFile::open(path).read("b") == b);
}

TEST_CASE("files are written whole or not at all") {
    const TempDir dir;
    const std::string path = dir / "f";
    wt::atomic_write_file(path, "one");
    CHECK(slurp(path) == "one");
    wt::atomic_write_file(path, "");
    CHECK(slurp(path) == "");
    {
        wt::AtomicFile f(path, 5, "file");
        f.write("two", 3);
        CHECK(slurp(path + ".tmp") == "two");
    }  // never committed
    CHECK(slurp(path) == "");
    CHECK_FALSE(std::filesystem::exists(path + ".tmp"));
    const std::string nowhere = dir / "no/f";
    CHECK(contains(message_of([&] { wt::atomic_write_file(nowhere, "x"); }),
                   "cannot write " + nowhere + ": No such"));
    std::filesystem::create_directory(dir / "d");
    CHECK(contains(message_of([&] { wt::atomic_write_file(dir / "d", "x"); }),
                   "not a regular file (a folder)"));
    CHECK_FALSE(std::filesystem::exists(dir / "d.tmp"));

    // An aside that a killed run left is no obstacle.
    spit(path + ".tmp", "left over, and longer");
    wt::atomic_write_file(path, "three");
    CHECK(slurp(path) == "three");
}

TEST_CASE("safetensors: names that cannot be written") {
    const TempDir dir;
    const float x = 0;
    const auto writing = [&](std::vector<NamedTensor> t) {
        return message_of([&] { wt::write_safetensors(dir / "f", t); });
    };
    CHECK(contains(writing({{"a", {1}, &x}, {"a", {1}, &x}}), "bad tensor name 'a'"));
    CHECK(contains(writing({{"", {1}, &x}}), "bad tensor name"));
    CHECK(contains(writing({{"__metadata__", {1}, &x}}), "bad tensor name"));
    CHECK(contains(writing({{"a", {-1}, &x}}), "tensor a has the shape [-1]"));
    CHECK(std::filesystem::is_empty(dir.path()));
}
