// What is read is a regular file: nothing else is opened, none is waited for, and each is named in
// one line.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "data/dataset.h"
#include "host/cuda/check.h"
#include "host/cuda/regular_file.h"
#include "host/model/step_model.h"
#include "host/train/atomic_file.h"
#include "host/train/metrics.h"
#include "host/train/safetensors.h"
#include "host/train/tune.h"
#include "test/data_files.h"
#include "test/training.h"

namespace fs = std::filesystem;
using namespace wt;
using namespace wt::test;

namespace {

void make_fifo(const std::string& path) { REQUIRE(mkfifo(path.c_str(), 0600) == 0); }

void make_socket(const std::string& path) {
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    REQUIRE(path.size() < sizeof to.sun_path);
    std::memcpy(to.sun_path, path.c_str(), path.size());
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(bind(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
    close(fd);  // the name stays
}

std::string wrong(const std::string& path) { return RegularFile(path).wrong(); }

// Ends what would wait for ever, long after any other reason for being slow.
std::string patient(const std::string& command) { return "timeout 900 " + command; }

}  // namespace

TEST_CASE("regular files: only they are opened, also through links, and read to their end") {
    const TempDir s;
    std::string bytes;
    for (int i = 0; i < 200'000; ++i) bytes += static_cast<char>(i * 31 >> 3);
    spit(s / "file", bytes);
    fs::create_symlink("file", s / "link");
    for (const char* name : {"file", "link"}) {
        RegularFile f(s / name);
        REQUIRE(f.wrong().empty());
        CHECK_FALSE(f.missing());
        CHECK(f.size() == 200'000);
        CHECK((fcntl(f.fd(), F_GETFL) & O_NONBLOCK) == 0);
        CHECK((fcntl(f.fd(), F_GETFD) & FD_CLOEXEC) != 0);
        char first[3];
        CHECK(f.read(first, 3) == 3);
        CHECK(std::string(first, 3) + f.rest() == bytes);
        CHECK(f.read(first, 3) == 0);
    }
    CHECK(read_whole(s / "link") == bytes);
    spit(s / "empty", "");
    CHECK(read_whole(s / "empty").empty());
    {
        RegularFile f(s / "file");
        const int fd = f.release();
        CHECK(f.fd() == -1);
        CHECK(close(fd) == 0);  // not closed before
    }

    make_fifo(s / "fifo"), make_socket(s / "socket");
    fs::create_directory(s / "folder");
    fs::create_symlink("nowhere", s / "dangling");
    fs::create_symlink("fifo", s / "to_fifo");
    CHECK(wrong(s / "fifo") == "not a regular file (a FIFO)");
    CHECK(wrong(s / "to_fifo") == "not a regular file (a FIFO)");
    CHECK(wrong(s / "socket") == "not a regular file (a socket)");
    CHECK(wrong(s / "folder") == "not a regular file (a folder)");
    CHECK(wrong("/dev/zero") == "not a regular file (a device)");
    CHECK_FALSE(RegularFile(s / "fifo").missing());
    for (const char* name : {"none", "dangling"}) {
        CHECK(wrong(s / name) == "No such file or directory");
        CHECK(RegularFile(s / name).missing());
    }
    CHECK(message_of([&] { read_whole(s / "fifo", "give another"); }) ==
          "cannot read " + (s / "fifo") + ": not a regular file (a FIFO): give another");
}

TEST_CASE("regular files: weights, tuned kernels, times and logs that are none are named") {
    const TempDir s;
    make_fifo(s / "fifo");
    const std::string path = s / "fifo", why = ": not a regular file (a FIFO)";
    CHECK(message_of([&] { SafetensorsFile::open(path); }) == "cannot read " + path + why);
    CHECK(has(message_of([&] { model::read_times(path); }), "cannot read " + path + why));
    make_fifo(s / "metrics.jsonl");
    for (const int64_t step : {MetricsLog::kFresh, int64_t{3}})
        CHECK(has(message_of([&] { MetricsLog(s.path(), step); }),
                  "cannot write " + (s / "metrics.jsonl") + why));
    Tuning t("some GPU");
    CHECK(load_tuning(path, t) == path + " cannot be read (not a regular file (a FIFO)): ignored");
    CHECK(message_of([&] { save_tuning(path, t); }) == "cannot write " + path + why);
    CHECK(wrong(path) == "not a regular file (a FIFO)");  // is still there
}

TEST_CASE("regular files: nothing else is ever replaced by what is written") {
    const TempDir s;
    make_fifo(s / "fifo");
    make_socket(s / "socket");
    fs::create_directory(s / "folder");
    fs::create_symlink("fifo", s / "to_fifo");
    fs::create_symlink("/dev/full", s / "full");
    const auto kind = [&](const std::string& path) { return fs::symlink_status(path).type(); };
    // What must be whole, a checkpoint for one, is refused there.
    for (const auto& [name, what] : {std::pair{"fifo", "a FIFO"},
                                     {"to_fifo", "a FIFO"},
                                     {"socket", "a socket"},
                                     {"folder", "a folder"},
                                     {"full", "a device"}}) {
        const std::string path = s / name;
        const auto before = kind(path);
        const std::string line = "cannot write " + path + ": not a regular file (" + what + ")";
        CHECK(message_of([&] { AtomicFile(path, 1, "checkpoint"); }) == line);
        CHECK(message_of([&] { write_safetensors(path, {}); }) == line);
        CHECK(kind(path) == before);
        CHECK_FALSE(fs::exists(path + ".tmp"));
    }
    // One that comes to lie there while the file is written is not replaced either.
    {
        AtomicFile file(s / "late", 1, "file");
        file.write("x", 1);
        make_fifo(s / "late");
        CHECK(message_of([&] { file.commit(); }) ==
              "cannot write " + (s / "late") + ": not a regular file (a FIFO)");
        CHECK(kind(s / "late") == fs::file_type::fifo);
        CHECK_FALSE(fs::exists(s / "late.tmp"));
    }
    // Reports go to a device or a pipe as they are; a FIFO that nobody reads is not waited for.
    atomic_write_file("/dev/null", "x");
    CHECK(kind("/dev/null") == fs::file_type::character);
    CHECK(message_of([&] { atomic_write_file(s / "full", "x"); }) ==
          "cannot write " + (s / "full") + ": No space left on device");
    CHECK(kind(s / "full") == fs::file_type::symlink);
    CHECK(message_of([&] { atomic_write_file(s / "fifo", "x"); }) ==
          "cannot write " + (s / "fifo") + ": nobody reads it");
    const int reader = open((s / "fifo").c_str(), O_RDONLY | O_NONBLOCK);
    atomic_write_file(s / "to_fifo", "report");
    char got[16] = {};
    CHECK(read(reader, got, sizeof got) == 6);
    CHECK(std::string(got) == "report");
    close(reader);

    // A link stays; what it leads to is replaced, or made.
    fs::create_directory(s / "elsewhere");
    spit(s / "elsewhere/kept", "old");
    fs::create_symlink("elsewhere/kept", s / "link");
    fs::create_symlink("link", s / "second");
    fs::create_symlink("elsewhere/new", s / "to_new");
    for (const char* name : {"link", "second", "to_new"}) {
        atomic_write_file(s / name, name);
        CHECK(kind(s / name) == fs::file_type::symlink);
        CHECK(slurp(s / name) == name);
    }
    CHECK(slurp(s / "elsewhere/kept") == "second");
    CHECK(slurp(s / "elsewhere/new") == "to_new");
    fs::create_symlink("circle", s / "circle");
    CHECK(has(message_of([&] { atomic_write_file(s / "circle", "x"); }),
              "Too many levels of symbolic links"));
    // A link in the aside's place leads nowhere.
    fs::create_symlink("elsewhere/kept", s / "aside.tmp");
    CHECK(has(message_of([&] { atomic_write_file(s / "aside", "x"); }),
              "cannot write " + (s / "aside")));
    CHECK(slurp(s / "elsewhere/kept") == "second");

    // Asked beforehand: the same answers, and nothing is left.
    check_output(s / "fresh");
    CHECK_FALSE(fs::exists(s / "fresh"));
    check_output(s / "elsewhere/kept");
    CHECK(slurp(s / "elsewhere/kept") == "second");
    check_output(s / "fifo");  // a reader may come
    CHECK(message_of([&] { check_output(s / "folder"); }) ==
          "cannot write " + (s / "folder") + ": not a regular file (a folder)");
    CHECK(has(message_of([&] { check_output(s / "none/x"); }), "No such file or directory"));
}

TEST_CASE("regular files: reports of the programs leave links, FIFOs and devices what they are") {
    const TempDir s;
    spit(s / "real", "old");
    fs::create_symlink("real", s / "link");
    const std::string compare = program("compare") + " softmax --net mini --batch 2 --check-only ",
                      scaling = program("scaling") + " --workers 1,2 ";
    const std::string train_flags = train("--steps 1 --overwrite --out r --timeline ");
    for (const std::string& command :
         {compare + "--json ", compare + "--html ", scaling + "--json ", scaling + "--svg "}) {
        INFO(command);
        CHECK(run(s, command + "link").status == 0);
        CHECK(fs::is_symlink(s / "link"));
        CHECK(slurp(s / "real").size() > 100);
        CHECK(run(s, patient(command + "/dev/full"))
                  .err.find("cannot write /dev/full: No space left on device") !=
              std::string::npos);
        CHECK(fs::is_character_file("/dev/full"));
        make_fifo(s / "fifo");
        CHECK(run(s, patient(command + "fifo")).err.find("cannot write fifo: nobody reads it") !=
              std::string::npos);
        CHECK(fs::is_fifo(s / "fifo"));
        // Descriptor 9 is open once somebody reads, so that the program finds a reader.
        CHECK(run(s,
                  "cat fifo >got & exec 9>fifo; " + patient(command + "fifo") + "; exec 9>&-; wait")
                  .status == 0);
        CHECK(slurp(s / "got").size() > 100);
        CHECK(fs::is_fifo(s / "fifo"));
        fs::remove(s / "fifo");
    }
    // Found before the first step: the run's folder is not even made.
    check_one_line(run(s, patient(train_flags + "none/x.svg")), 1,
                   "cannot write none/x.svg: No such file or directory");
    CHECK_FALSE(fs::exists(s / "r"));
}

TEST_CASE("regular files: sets with others among theirs") {
    const TempDir s;
    const auto error = [&](const std::string& text, int input) {
        return message<Error>([&] { open_data({text, input, 1, 1000}); });
    };
    SUBCASE("IDX") {
        write_idx_set(s / "set", 20, 10);
        for (const char* name : {"train-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"}) {
            const std::string path = s / ("set/" + std::string(name));
            fs::rename(path, s / "kept");
            make_fifo(path);
            CHECK(error("mnist:" + (s / "set"), 28) ==
                  "cannot read " + path + ": not a regular file (a FIFO)");
            fs::remove(path);
            fs::create_symlink(s / "kept", path);
            CHECK(open_data({"mnist:" + (s / "set"), 28, 1, 1000}).train->size() == 20);
            fs::remove(path);
            fs::rename(s / "kept", path);
        }
    }
    SUBCASE("CIFAR-10") {
        for (int k = 1; k <= 5; ++k)
            write_file(s / ("data_batch_" + std::to_string(k) + ".bin"), Bytes(3073, 3));
        write_file(s / "test_batch.bin", Bytes(2 * 3073, 3));
        make_fifo(s / "batches.meta.txt");
        CHECK(
            has(error("cifar10:" + s.path(), 24), "batches.meta.txt: not a regular file (a FIFO)"));
        fs::remove(s / "batches.meta.txt");
        CHECK(open_data({"cifar10:" + s.path(), 24, 1, 1000}).held_out->size() == 2);
        fs::remove(s / "data_batch_4.bin");
        fs::create_directory(s / "data_batch_4.bin");
        CHECK(error("cifar10:" + s.path(), 24) ==
              "cannot read " + (s / "data_batch_4.bin") + ": not a regular file (a folder)");
    }
    SUBCASE("folders: left out, counted and named") {
        write_file(s / "train/cat/a.png", flat_png(80, 80, 1, 2, 3));
        make_fifo(s / "train/cat/b.jpg"), make_socket(s / "train/cat/c.png");
        fs::create_directory(s / "train/cat/d.jpeg");
        fs::create_symlink(s / "train/cat/a.png", s / "train/cat/e.png");
        const DataSplits d = open_data({"folder:" + s.path(), 67, 1, 1000});
        CHECK(d.train->size() == 2);
        CHECK(d.train->bad_count() == 3);
        const auto bad = d.train->bad_images();
        REQUIRE(bad.size() == 3);
        CHECK(bad[0].path == s / "train/cat/b.jpg");
        CHECK(bad[0].reason == "not a regular file (a FIFO)");
        CHECK(bad[1].reason == "not a regular file (a socket)");
        CHECK(bad[2].reason == "not a regular file (a folder)");
        // One that takes an image's place after the set was opened.
        fs::remove(s / "train/cat/a.png");
        make_fifo(s / "train/cat/a.png");
        Bytes out(76 * 76 * 3);
        CHECK_FALSE(d.train->load(0, out.data()));
        CHECK(d.train->bad_images().back().reason == "not a regular file (a FIFO)");
    }
}

TEST_CASE("train: what is no regular file is one line, and never waited for") {
    const TempDir s;
    make_fifo(s / "fifo");
    check_one_line(run(s, patient(train("--steps 1 --init fifo"))), 1,
                   "cannot read fifo: not a regular file (a FIFO)");
    fs::create_directory(s / "r");
    make_fifo(s / "r/checkpoint.safetensors");
    check_one_line(run(s, patient(train("--steps 1 --resume r"))), 1,
                   "cannot read r/checkpoint.safetensors: not a regular file (a FIFO)");
    fs::create_directory(s / "l");
    make_fifo(s / "l/metrics.jsonl");
    check_one_line(run(s, patient(train("--steps 1 --out l"))), 1,
                   "cannot write l/metrics.jsonl: not a regular file (a FIFO)");
    for (const char* split : {"train", "val"})
        for (int i = 0; i < 4; ++i)
            write_file(s / ("set/" + std::string(split) + "/cat/" + std::to_string(i) + ".png"),
                       flat_png(80, 80, 1, 2, 3));
    make_fifo(s / "set/train/cat/x.jpg");
    const std::string flags = " --net mini --data folder:set --batch 2 --gpus 0 --steps 1";
    const Result r = run(s, patient(program("train") + flags));
    INFO(r.err);
    CHECK(r.status == 0);
    CHECK(has(r.out, "skipped 1 unreadable image of the training split"));
    CHECK(has(r.out, "set/train/cat/x.jpg: not a regular file (a FIFO)"));
}
