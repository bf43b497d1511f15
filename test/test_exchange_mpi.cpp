// The exchange over MPI and the job around it. Test cases whose names begin with "rank:" run in
// every process of a job that the others start.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <numeric>

#include "host/parallel/exchange_mpi.h"
#include "test/mpi.h"
#include "test/seeds.h"

using namespace wt;
using namespace wt::test;

namespace {

// What a byte of a block is in a step: differs between ranks, transfers, steps and neighbours.
unsigned char value(int rank, int t, int step, size_t at) {
    return static_cast<unsigned char>((rank + 1) * 37 + t * 11 + step * 5 + at * 3 + at / 251);
}

BlockSlice region(size_t offset, int64_t rows, size_t row_bytes, size_t pitch) {
    return {offset, rows, row_bytes, pitch};
}

// Uneven, unaligned, empty, shared and long parts; the last is the step's barrier.
std::vector<Transfer> awkward(int ranks) {
    std::vector<Transfer> all;
    Transfer columns("columns", ranks);  // everybody's share of the columns of 7 rows; uneven
    columns.own = true;
    for (int from = 0; from < ranks; ++from)
        for (int to = 0; to < ranks; ++to)
            columns.part(from, to) =
                region(3 + 5 * to, 7, 5 + (to == ranks - 1 ? 2 : 0), 5 * ranks + 4);
    all.push_back(columns);
    Transfer gather("gather", ranks);  // the same to all
    gather.own = true;
    for (int from = 0; from < ranks; ++from)
        for (int to = 0; to < ranks; ++to)
            gather.part(from, to) = region(16, 1, 1000 + from, 1000 + from);
    all.push_back(gather);
    Transfer one("from rank 1", ranks);  // others give nothing; a byte to rank 0
    for (int to = 0; to < ranks; ++to)
        if (to != 1) one.part(1, to) = region(size_t(to), 1, size_t(to) * 100 + 1, 4096);
    all.push_back(one);
    Transfer large("large", ranks);
    for (int from = 0; from < ranks; ++from)
        for (int to = 0; to < ranks; ++to) large.part(from, to) = region(0, 3, 400'001, 400'003);
    all.push_back(large);
    all.push_back(Transfer("nothing", ranks));
    return all;
}

// Rank 0 only gives: nothing holds it back from the next step but what it must not overwrite yet.
std::vector<Transfer> one_way(int ranks) {
    Transfer t("one way", ranks);
    for (int to = 1; to < ranks; ++to) t.part(0, to) = region(7, 2, 600'000, 600'001);
    return {t};
}

constexpr size_t kBlock = 1'300'000;
constexpr int kSteps = 5;

// Steps that are submitted without waiting: blocks written on one stream, collected on another,
// looked at on a third. Nothing orders them but what the exchange promises, and the end of a step.
void run_steps(MpiTeam& team, size_t chunk, std::vector<Transfer> transfers) {
    const int rank = team.rank(), ranks = team.ranks(), device = team.local_rank() % device_count();
    transfers.emplace_back("end of the step", ranks).barrier = true;
    const int n = static_cast<int>(transfers.size());
    WT_CUDA(cudaSetDevice(device));
    const auto offsets = staging_offsets(transfers, rank);
    DeviceBuffer<std::byte> staging(device, offsets.back());
    std::vector<DeviceBuffer<std::byte>> blocks;
    std::vector<PinnedBuffer<std::byte>> sources, seen;
    MpiExchange x(team, chunk);
    x.open(device, transfers, staging.data());
    Stream compute(device), comm(device), late(device);
    Event collected(device), looked(device);
    size_t expected_bytes = 0;
    for (int t = 0; t < n; ++t) {
        blocks.emplace_back(device, kBlock);
        for (int step = 0; step < kSteps; ++step) {
            sources.emplace_back(kBlock);
            for (size_t i = 0; i < kBlock; ++i)
                sources.back()[i] = std::byte(value(rank, t, step, i));
            seen.emplace_back(offsets.back() + 1);
            expected_bytes += transfers[t].bytes_from(rank);
        }
    }
    struct Look {
        int t, step, from;
        const std::byte* at;
    };
    std::vector<Look> looks;
    for (int step = 0; step < kSteps; ++step) {
        if (step > 0) x.collect(n - 1, compute.get());
        for (int t = 0; t < n - 1; ++t)
            WT_CUDA(cudaMemcpyAsync(blocks[t].data(), sources[t * kSteps + step].data(), kBlock,
                                    cudaMemcpyHostToDevice, compute.get()));
        for (int t = 0; t < n - 1; ++t) {
            x.post(t, blocks[t].data(), compute.get());
            const auto views = x.collect(t, comm.get());
            collected.record(comm.get());
            late.wait(collected);
            for (int from = 0; from < ranks; ++from) {
                const BlockSlice& p = transfers[t].part(from, rank);
                CHECK((views[from].data != nullptr) == transfers[t].moves(from, rank));
                if (!views[from].data) continue;
                CHECK(views[from].pitch == p.row_bytes);
                std::byte* to = seen[t * kSteps + step].data() + offsets[size_t(t) * ranks + from];
                WT_CUDA(cudaMemcpyAsync(to, views[from].data, p.bytes(), cudaMemcpyDeviceToHost,
                                        late.get()));
                looks.push_back({t, step, from, to});
            }
        }
        looked.record(late.get());
        compute.wait(looked);
        x.post(n - 1, nullptr, compute.get());
    }
    compute.synchronize();
    CHECK(x.bytes_sent() == static_cast<int64_t>(expected_bytes));
    for (const Look& l : looks) {
        const BlockSlice& p = transfers[l.t].part(l.from, rank);
        size_t wrong = 0;
        for (int64_t r = 0; r < p.rows; ++r)
            for (size_t c = 0; c < p.row_bytes; ++c)
                wrong += l.at[r * p.row_bytes + c] !=
                         std::byte(value(l.from, l.t, l.step, p.offset + r * p.pitch + c));
        INFO("rank " << rank << ", " << transfers[l.t].name << " from rank " << l.from << ", step "
                     << l.step);
        CHECK(wrong == 0);
    }
}

double seconds_of(const std::function<void()>& f) {
    const auto start = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST_CASE("rank: every part of every step arrives whole, in every order of work" *
          doctest::skip()) {
    MpiTeam team({});
    for (const uint64_t seed : seeds(6)) {
        const SeedGuard guard(seed);
        run_steps(team, seed % 2 ? 100'000 : size_t(1) << 30, awkward(team.ranks()));
        run_steps(team, seed % 2 ? size_t(1) << 30 : 50'000, one_way(team.ranks()));
    }
}

TEST_CASE(
    "mpi: every part of every step arrives whole, in every order of work, between 2 and 3 processes") {
    const TempDir s;
    for (const int ranks : {2, 3}) {
        const Result r = run(s, case_under_mpirun(ranks, "rank: every part*"));
        INFO(r.out << r.err);
        CHECK(r.status == 0);
        CHECK(count(r.out, "1 passed, 0 failed") == ranks);
    }
}

TEST_CASE("rank: what a job agrees on" * doctest::skip()) {
    MpiTeam team({});
    const int rank = team.rank(), ranks = team.ranks();
    REQUIRE(ranks == 3);
    CHECK(team.local_rank() == rank);
    CHECK(team.local_ranks() == ranks);
    CHECK(team.machines().starts_with("3 on machine "));
    std::vector<float> mine(size_t(rank) * 1000);  // nothing from rank 0
    std::iota(mine.begin(), mine.end(), 10'000.f * rank);
    const auto all = team.gather(mine);
    CHECK(all.size() == (rank == 0 ? 3000u : 0u));
    if (rank == 0)
        CHECK(
            (all[0] == 10'000 && all[999] == 10'999 && all[1000] == 20'000 && all[2999] == 21'999));
    CHECK(team.broadcast("of rank " + std::to_string(rank)) == "of rank 0");
    CHECK(team.broadcast(std::string()).empty());
    CHECK(team.broadcast(std::vector<float>(rank ? 0 : 3, 2.5f)) == std::vector<float>(3, 2.5f));
    team.same("flags", "the same");
    const std::string why =
        message_of([&] { team.same("flags", rank == 2 ? "--batch 3" : "--batch 4"); });
    CHECK(why.starts_with("the flags of rank 2 (process "));
    CHECK(why.ends_with(") is '--batch 3', that of rank 0 '--batch 4'"));
    CHECK(team.message_rate() > 0);
    team.vote(rank == 1 ? 130 : rank == 2 ? 129 : 0);
    CHECK(team.verdict() == 130);
    team.vote(0);
    CHECK(team.verdict() == 0);
    team.barrier();
}

TEST_CASE("mpi: what a job agrees on") {
    const TempDir s;
    const Result r = run(s, case_under_mpirun(3, "rank: what a job agrees on"));
    INFO(r.out << r.err);
    CHECK(r.status == 0);
    CHECK(count(r.out, "1 passed, 0 failed") == 3);
}

// Rank 1 does what WT_TEST_END says while the others wait for its part.
TEST_CASE("rank: one of them ends" * doctest::skip()) {
    TeamOptions options;
    options.program = "test";
    options.lost_after = 3;
    const std::string end = std::getenv("WT_TEST_END");
    if (end == "stuck") options.stuck_after = 2;
    MpiTeam team(options);
    team.set_advice("the advice");
    Transfer t("activities", team.ranks());
    for (int from = 0; from < team.ranks(); ++from)
        for (int to = 0; to < team.ranks(); ++to) t.part(from, to) = region(0, 1, 100, 100);
    const auto staging = staging_offsets({t}, team.rank());
    const int device = team.local_rank() % device_count();
    DeviceBuffer<std::byte> block(device, 100), received(device, staging.back());
    Stream stream(device);
    MpiExchange x(team);
    x.open(device, {t}, received.data());
    if (end == "fails everywhere") team.fail("the loss is not finite", 1);
    if (team.rank() == 1) {
        if (end == "killed") kill(getpid(), SIGKILL);
        if (end == "stopped") kill(getpid(), SIGSTOP);
        if (end == "fails") team.fail("cannot read a file", 1);
        if (end == "stuck") sleep(30);
    }
    try {
        x.post(0, block.data(), stream.get());
        x.collect(0, stream.get());
        sleep(30);
    } catch (const Error& e) {
        team.fail(e.what(), 1);
    }
}

TEST_CASE(
    "mpi: a rank that is killed, stopped, stuck or has failed ends the others with one line, within 30 s") {
    const TempDir s;
    struct Way {
        const char *end, *message;
        int ranks;
    };
    for (const Way& w :
         {Way{"killed", " was lost: its process is gone; the advice", 2},
          Way{"killed", " was lost: its process is gone; the advice", 3},
          Way{"stopped", " was lost: no sign of life for 3 s; the advice", 2},
          Way{"stuck", " is alive but has not sent 'activities' for 2 s; the advice", 2},
          Way{"fails", ": cannot read a file", 3},
          Way{"fails everywhere", "the loss is not finite", 3}}) {
        Result r;
        const std::string command = std::string("WT_TEST_END='") + w.end + "' " +
                                    case_under_mpirun(w.ranks, "rank: one of them ends");
        const double took = seconds_of([&] { r = run(s, command); });
        INFO(std::string(w.end) << ", " << w.ranks << " processes, " << took << " s: " << r.out
                                << r.err);
        CHECK(r.status != 0);
        CHECK(took < 30);
        CHECK(count(r.err, "test: ") == 1);
        CHECK(r.err.find(w.message) != std::string::npos);
        if (std::string(w.end) != "fails everywhere")
            CHECK(r.err.find("test: rank 1 (process ") != std::string::npos);
    }
}
