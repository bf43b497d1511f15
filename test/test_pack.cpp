// bin/pack and the records that it makes: NumPy's headers, tar archives, ILSVRC's development kit,
// the bytes whatever the threads and however often it is killed, and the set as training sees it.
#include <random>

#include "data/dataset.h"
#include "data/ilsvrc_devkit.h"
#include "data/npy.h"
#include "data/pack.h"
#include "data/pack_check.h"
#include "data/tar_index.h"
#include "host/json.h"
#include "test/data_files.h"
#include "test/pack_files.h"
#include "test/program.h"

using namespace wt;
using namespace wt::test;

namespace {

std::vector<TarMember> index(const Bytes& tar) {
    return index_tar("x.tar", tar.size(), [&](uint64_t offset, void* out, size_t n) {
        if (offset > tar.size() || n > tar.size() - offset) return false;
        std::memcpy(out, &tar[offset], n);
        return true;
    });
}

// 3 classes x 12 training images and 2 held-out ones of each, of different sizes and patterns; one
// training image of the second class is no image, nor is the last of all.
Bytes pattern(uint32_t seed) {
    std::mt19937 random(seed);
    const int w = 40 + static_cast<int>(random() % 30), h = 40 + static_cast<int>(random() % 30);
    Bytes rows(static_cast<size_t>(w * h * 3));
    for (uint8_t& b : rows) b = static_cast<uint8_t>(random());
    return png(w, h, 8, 2, rows);
}
void write_set(const std::string& dir) {
    uint32_t seed = 1;
    for (const char* c : {"cat", "dog", "owl"}) {
        for (int i = 0; i < 12; ++i)
            write_file(dir + "/train/" + c + "/" + std::to_string(10 + i) + ".png",
                       pattern(seed++));
        for (int i = 0; i < 2; ++i)
            write_file(dir + "/val/" + c + "/" + std::to_string(i) + ".png", pattern(seed++));
    }
    write_file(dir + "/train/dog/15.png", bytes_of("not an image"));
    write_file(dir + "/train/owl/99.png", bytes_of("nor this"));
}

// Every file of a folder with its bytes.
std::map<std::string, Bytes> contents(const std::string& dir) {
    std::map<std::string, Bytes> all;
    for (const auto& e : std::filesystem::recursive_directory_iterator(dir))
        if (e.is_regular_file())
            all[std::filesystem::relative(e.path(), dir).string()] = read_bytes(e.path().string());
    return all;
}

PackResult pack_folder(const std::string& from, const std::string& to, int threads = 0) {
    return pack(
        list_pack_source({.folder = from, .val_labels = "", .names = ""}),
        {.out = to, .side = 32, .threads = threads}, [](const PackProgress&) {},
        [] { return false; });
}

}  // namespace

TEST_CASE("pack: NumPy's headers go and come back") {
    NpyHeader h;
    const std::string text = npy_header("|u1", {1281167, 256, 256, 3}, 128);
    CHECK(text.size() == 128);
    REQUIRE(parse_npy_header(text, h) == "");
    CHECK(h.type == "|u1");
    CHECK(h.shape == std::vector<int64_t>{1281167, 256, 256, 3});
    CHECK(h.data == 128);
    REQUIRE(parse_npy_header(npy_header("<i8", {7}), h) == "");
    CHECK(h.shape == std::vector<int64_t>{7});
    CHECK(h.data % 64 == 0);
    CHECK(parse_npy_header("PK\3\4", h) == "not a NumPy array file");
    CHECK(parse_npy_header(text.substr(0, 100), h) == "cut off in its header");
    std::string fortran = text;
    fortran.replace(fortran.find("False"), 5, "True ");
    CHECK(parse_npy_header(fortran, h) == "not in C order");
}

TEST_CASE("pack: members of a tar archive, with long names") {
    Bytes tar;
    const std::string gnu(130, 'g'), pax(140, 'p');
    add_member(tar, "folder/", {}, '5');
    add_member(tar, "a.png", bytes_of("alpha"));
    add_member(tar, "././@LongLink", bytes_of(gnu + '\0'), 'L');
    add_member(tar, gnu.substr(0, 99), bytes_of("beta"));
    const std::string record = "path=" + pax + "\n";
    add_member(tar, "PaxHeaders/x", bytes_of(std::to_string(record.size() + 4) + " " + record),
               'x');
    add_member(tar, pax.substr(0, 99), Bytes(513, 7));
    add_member(tar, "b.png", {});
    end_tar(tar);
    const auto m = index(tar);
    REQUIRE(m.size() == 4);
    CHECK(m[0].name == "a.png");
    CHECK(std::memcmp(&tar[m[0].offset], "alpha", 5) == 0);
    CHECK(m[1].name == gnu);
    CHECK(m[2].name == pax);
    CHECK(m[2].size == 513);
    CHECK(m[3].name == "b.png");

    const auto wrong = [](const Bytes& b) { return message<Error>([&] { index(b); }); };
    Bytes cut = tar;
    cut.resize(m[2].offset + 512);
    CHECK(has(wrong(cut), "x.tar: the archive is cut off"));
    Bytes damaged = tar;
    damaged[m[1].offset - 512] ^= 1;
    CHECK(has(wrong(damaged), "x.tar: the archive is damaged (at byte "));
    CHECK(wrong(bytes_of(std::string(600, 'x'))) == "x.tar: not a tar archive");
}

TEST_CASE("pack: the development kit's synsets, whole and cut off anywhere") {
    const std::vector<IlsvrcDevkit::Synset> want = {{1, "n02119789", "kit fox, Vulpes macrotis"},
                                                    {490, "n01440764", "tench, Tinca tinca"}};
    const std::string mat = synsets_mat(want);
    std::vector<IlsvrcDevkit::Synset> got;
    REQUIRE(parse_synsets(mat, got) == "");
    REQUIRE(got.size() == 2);
    CHECK(got[1].id == 490);
    CHECK(got[1].wnid == "n01440764");
    CHECK(got[0].words == "kit fox, Vulpes macrotis");
    for (size_t n = 0; n < mat.size(); ++n) {
        got.clear();
        CHECK(parse_synsets(mat.substr(0, n), got) != "");
    }
    // An array without extents is one element: nothing is copied from them or to them.
    got.clear();
    CHECK(parse_synsets(synsets_mat({want[0]}, false), got) == "");
    CHECK(got.size() == 1);
}

TEST_CASE("pack: the same bytes whatever the threads; unreadable images are listed") {
    const TempDir t;
    write_set(t / "set");
    const PackResult r = pack_folder(t / "set", t / "one", 1);
    CHECK(r.images == 36 - 1 + 6);  // 12 a class, a place of the third is in vain
    CHECK(r.unreadable == 2);
    pack_folder(t / "set", t / "three", 3);
    const auto one = contents(t / "one");
    CHECK(one == contents(t / "three"));
    CHECK(one.size() == 7);
    const Bytes listed = one.at("unreadable.txt");
    CHECK(std::string(listed.begin(), listed.end()) ==
          "train/dog/15.png\tneither JPEG nor PNG\ntrain/owl/99.png\tneither JPEG nor PNG\n");
    // Again: nothing is done anew, and nothing changes.
    const auto when = std::filesystem::last_write_time(t / "one/train/images.npy");
    CHECK(pack_folder(t / "set", t / "one").images == r.images);
    CHECK(std::filesystem::last_write_time(t / "one/train/images.npy") == when);
    CHECK(one == contents(t / "one"));
}

TEST_CASE("pack: stopped and killed, the same command goes on to the same bytes") {
    const TempDir t;
    write_set(t / "set");
    pack_folder(t / "set", t / "whole");
    const auto want = contents(t / "whole");
    const PackSource source =
        list_pack_source({.folder = t / "set", .val_labels = "", .names = ""});
    int starts = 0;
    for (bool stopped = true; stopped; ++starts) {  // five images a start
        int asked = 0;
        stopped = pack(
                      source, {.out = t / "bits", .side = 32, .threads = 1},
                      [](const PackProgress&) {}, [&] { return ++asked > 5; })
                      .stopped;
        if (stopped) CHECK(!std::filesystem::exists(t / "bits/stats.json"));
    }
    CHECK(starts > 7);
    CHECK(contents(t / "bits") == want);
    // Killed at random moments, by the signal that nobody can catch.
    const std::string command = program("pack") + " set killed --side 32 --threads 2";
    for (int i = 0; i < 5; ++i)
        run(t, "timeout -s KILL 0.0" + std::to_string(1 + 2 * i) + " " + command);
    const Result r = run(t, command);
    CHECK(r.status == 0);
    CHECK_MESSAGE(has(r.out, "packed  41 images into killed; 2 unreadable ones are in"), r.out);
    CHECK(contents(t / "killed") == want);
    // Killed between a split's last rename and the end of all.
    std::filesystem::copy(t / "whole", t / "late", std::filesystem::copy_options::recursive);
    std::filesystem::remove(t / "late/stats.json");
    CHECK(pack_folder(t / "set", t / "late").images == 41);
    CHECK(contents(t / "late") == want);
}

TEST_CASE("pack: what does not fit together is refused in one line") {
    const TempDir t;
    write_set(t / "set");
    pack_folder(t / "set", t / "out");
    check_one_line(run(t, program("pack") + " set out --side 48"), 1,
                   "out holds records of something else");
    CHECK(run(t, program("pack") + " set out --side 48 --overwrite").status == 0);
    CHECK(open_data({.text = "records:" + t / "out", .net_input = 48}).train->height == 48);
    check_one_line(run(t, program("pack") + " nothing out"), 1, "nothing: no such folder");
    check_one_line(run(t, program("pack") + " set"), 2, "OUT is missing");
    check_one_line(run(t, program("pack") + " set out --check"), 2, "leave OUT away");
    // A full disk: files of at most 20 blocks. What is done stays done.
    const std::string small = program("pack") + " set small --side 32 --threads 1";
    check_one_line(run(t, "ulimit -f 40; trap '' XFSZ; " + small), 1,
                   "cannot write small/train/images");
    CHECK(run(t, small).status == 0);
    pack_folder(t / "set", t / "whole");
    CHECK(contents(t / "small") == contents(t / "whole"));
    // Another set since the beginning.
    run(t, "ulimit -f 40; trap '' XFSZ; " + program("pack") + " set other --side 32 --threads 1");
    write_file(t / "set/train/cat/77.png", pattern(77));
    check_one_line(run(t, program("pack") + " set other --side 32"), 1,
                   "holds a beginning of other records");
}

TEST_CASE("pack: records are the folder's images, in training order and statistics") {
    const TempDir t;
    write_set(t / "set");
    pack(
        list_pack_source({.folder = t / "set", .val_labels = "", .names = ""}),
        {.out = t / "out", .side = 76}, [](const PackProgress&) {}, [] { return false; });
    const DataSplits folder = open_data({.text = "folder:" + t / "set", .net_input = 67}),
                     records = open_data({.text = "records:" + t / "out", .net_input = 67});
    CHECK(records.train->classes == folder.train->classes);
    CHECK(records.held_out_name == "val");
    REQUIRE(records.train->size() == folder.train->size());
    REQUIRE(records.train->height == folder.train->height);
    // The folder leaves broken files out; in the records the last image of all took the first
    // one's place.
    Bytes a(static_cast<size_t>(76 * 76 * 3)), b = a;
    const int64_t n = folder.train->size(), gap = 12 + 5;
    for (int64_t i = 0; i < n; ++i) {
        const int64_t at = i < gap ? i : i == n - 1 ? gap : i + 1;
        CHECK(folder.train->load(i, a.data()));
        CHECK(records.train->load(at, b.data()));
        CHECK(a == b);
        CHECK(folder.train->label(i) == records.train->label(at));
    }
    for (int c = 0; c < 3; ++c) {
        CHECK(records.mean[c] == doctest::Approx(folder.mean[c]).epsilon(1e-6));
        CHECK(records.std_dev[c] == doctest::Approx(folder.std_dev[c]).epsilon(1e-6));
    }
    // Damaged ones.
    const auto error = [&] {
        return message<Error>(
            [&] { open_data({.text = "records:" + t / "out", .net_input = 67}); });
    };
    write_file(t / "out/train/labels.npy", bytes_of("x"));
    CHECK(has(error(), "out/train/labels.npy: not a NumPy array file"));
    std::filesystem::resize_file(t / "out/train/images.npy", 100'000);
    CHECK(has(error(), "out/train/images.npy: cut off: 100000 bytes of "));
    std::filesystem::remove(t / "out/stats.json");
    CHECK(has(error(), "has no stats.json: records are made by bin/pack FOLDER"));
}

TEST_CASE("pack: a flat folder of held-out images, labelled in each way") {
    const TempDir t;
    write_set(t / "set");
    std::filesystem::remove_all(t / "set/val");
    for (const char* name : {"v_1", "v_2", "v_3"})
        write_file(t / ("set/val/" + std::string(name) + ".png"), pattern(9));
    const auto labels = [&](const std::string& text) {
        write_file(t / "labels.txt", bytes_of(text));
        const PackSource s =
            list_pack_source({.folder = t / "set", .val_labels = t / "labels.txt", .names = ""});
        std::vector<int> l;
        for (const PackItem& i : s.splits.at(1).items) l.push_back(i.label);
        return l;
    };
    const std::vector<int> want = {2, 0, 1};
    CHECK(labels("v_2.png cat\nv_1.png owl\nv_3.png dog\n") == want);
    CHECK(labels("v_2.png 0\nv_1.png 2\r\nv_3.png 1\n") == want);
    CHECK(labels("owl\ncat\ndog\n") == want);
    CHECK(labels("ImageId,PredictionString\nv_3,dog 1 2 3 4\nv_1,owl 5 6 7 8\nv_2,cat 1 1 1 1\n") ==
          want);
    const auto error = [&](const std::string& text) {
        return message<Error>([&] { labels(text); });
    };
    CHECK(has(error("v_1 owl\nv_2 cat\n"), "says nothing of val/v_3.png"));
    CHECK(has(error("v_1 emu\n"), "the class emu is not among the training images'"));
    CHECK(has(error("v_1 3\n"), "a class's number must be 0 to 2"));
    CHECK(has(error("owl\ncat\n"), "has 2 lines, and val/ 3 images"));
    CHECK(has(error("490\n361\n171\n"), "mean nothing without ILSVRC2012_devkit_t12.tar.gz"));
    CHECK(has(message<Error>(
                  [&] { list_pack_source({.folder = t / "set", .val_labels = "", .names = ""}); }),
              "give --val-labels FILE"));
}

TEST_CASE("pack: ILSVRC's three archives, as they are, give what the folders give") {
    const TempDir t;
    const std::vector<std::string> classes = {"n01", "n02", "n03"};
    Bytes train, val;
    uint32_t seed = 1;
    for (const std::string& c : classes) {
        Bytes inner;
        for (int i = 0; i < 3; ++i) {
            const Bytes image = pattern(seed++);
            const std::string name = c + "_" + std::to_string(i) + ".png";
            add_member(inner, name, image);
            write_file(t / ("folders/train/" + c + "/" + name), image);
        }
        end_tar(inner);
        add_member(train, c + ".tar", inner);
    }
    end_tar(train);
    // Validation images of the classes with the kit's ids 2, 3, 1, which are n03, n01, n02.
    const std::vector<IlsvrcDevkit::Synset> synsets = {
        {1, "n02", "second"}, {2, "n03", "third"}, {3, "n01", "first"}};
    for (int i = 0; i < 3; ++i) {
        const Bytes image = pattern(seed++);
        const std::string name = "ILSVRC2012_val_0000000" + std::to_string(i + 1) + ".png";
        add_member(val, name, image);
        write_file(t / ("folders/val/" + classes[static_cast<size_t>((i + 2) % 3)] + "/" + name),
                   image);
    }
    end_tar(val);
    Bytes kit;
    add_member(kit, "ILSVRC2012_devkit_t12/data/meta.mat", bytes_of(synsets_mat(synsets)));
    add_member(kit, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
               bytes_of("2\n3\n1\n"));
    end_tar(kit);
    write_file(t / "tars/ILSVRC2012_img_train.tar", train);
    write_file(t / "tars/ILSVRC2012_img_val.tar", val);
    write_gz(t / "tars/ILSVRC2012_devkit_t12.tar.gz", kit);
    CHECK(pack_folder(t / "tars", t / "a").images == 12);
    CHECK(pack_folder(t / "folders", t / "b").images == 12);
    auto a = contents(t / "a"), b = contents(t / "b");
    CHECK(a.at("train/images.npy") == b.at("train/images.npy"));
    CHECK(a.at("train/labels.npy") == b.at("train/labels.npy"));
    CHECK(a.at("classes.txt") == b.at("classes.txt"));
    const Bytes names = a.at("names.txt");
    CHECK(std::string(names.begin(), names.end()) == "n01\tfirst\nn02\tsecond\nn03\tthird\n");
    // Held-out ones are in the order of their names here, of their classes there.
    const DataSplits tars = open_data({.text = "records:" + t / "a", .net_input = 32});
    REQUIRE(tars.held_out);
    CHECK(tars.held_out->label(0) == 2);
    CHECK(tars.held_out->label(1) == 0);
    CHECK(tars.held_out->label(2) == 1);
    std::filesystem::remove(t / "tars/ILSVRC2012_devkit_t12.tar.gz");
    CHECK(has(message<Error>([&] { pack_folder(t / "tars", t / "c"); }),
              "devkit_t12.tar.gz is missing"));
}

TEST_CASE("pack: --check names what is wrong with a set") {
    const TempDir t;
    write_set(t / "set");
    write_file(t / "set/train/cat/twin.png", pattern(1));
    write_file(t / "set/val/dog/leak.png", pattern(2));
    write_file(t / "set/train/owl/wide.png", flat_png(400, 70, 1, 2, 3));
    for (int i = 0; i < 1; ++i)
        write_file(t / "set/train/pig/only.png", flat_png(100, 100, 9, 9, 9));
    const SetFindings f = check_set(
        list_pack_source({.folder = t / "set", .val_labels = "", .names = ""}), 2,
        [](int64_t, int64_t) {}, [] { return false; });
    REQUIRE(f.unreadable.size() == 2);
    CHECK(f.unreadable[0] == "train/dog/15.png: neither JPEG nor PNG");
    REQUIRE(f.duplicates.size() == 1);
    CHECK(f.duplicates[0] == "train/cat/twin.png is train/cat/10.png");
    REQUIRE(f.leaked.size() == 1);
    CHECK(f.leaked[0] == "val/dog/leak.png is train/cat/11.png, of another class");
    CHECK(std::find(f.extreme.begin(), f.extreme.end(), "train/owl/wide.png: 400x70") !=
          f.extreme.end());
    REQUIRE(f.poor.size() == 1);
    CHECK(f.poor[0] == "pig: 1");
    CHECK(f.tiny.size() >= 36);
    const Result r = run(t, program("pack") + " set --check");
    CHECK(r.status == 0);
    CHECK_MESSAGE(has(r.out, "val/dog/leak.png is train/cat/11.png"), r.out);
}
