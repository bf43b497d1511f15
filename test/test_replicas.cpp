// --check-replicas: weights that every worker should have alike are compared.
#include "host/parallel/replicas.h"
#include "test/parallel_job.h"
#include "test/program.h"

using namespace wt;
using namespace wt::test;

TEST_CASE("replicas: one changed weight of one worker is found and named") {
    for (const DType dtype : {DType::f32, DType::bf16}) {
        std::vector<WorkerConfig> configs;
        for (int r = 0; r < 3; ++r) {
            WorkerConfig c;
            c.net = tiny_net({.classes = 10}, "tiny");
            c.rank = r;
            c.workers = 3;
            c.batch = 2;
            c.device = r % device_count();
            c.dtype = dtype;
            c.image_h = c.image_w = c.net.input.h;
            configs.push_back(c);
        }
        Group group(configs);
        const auto fill = [&](int changed, int param) {
            group.run([&](Worker& w) {
                for (size_t i = 0; i < w.layout().params.size(); ++i) {
                    const Param& p = w.layout().params[i];
                    auto values =
                        initial_values(configs[0].net, p, w.layout().rows[i], Init::he, 3);
                    if (w.layout().config.rank == changed && static_cast<int>(i) == param)
                        values.back() += 1;
                    w.set_param(static_cast<int>(i), values);
                }
            });
        };
        fill(-1, 0);
        CHECK(differing_replica(group) == "");
        const auto& params = group.worker(0).layout().params;
        int replicated = 0;
        for (size_t i = 0; i < params.size(); ++i) {
            fill(2, static_cast<int>(i));
            const std::string found = differing_replica(group);
            if (params[i].sharded) {  // nobody else has it
                CHECK(found == "");
                continue;
            }
            ++replicated;
            CHECK(found == params[i].name + " of worker 2 is not what worker 0 has");
        }
        CHECK(replicated >= 2);
        fill(0, 0);  // which of two is wrong nobody knows
        CHECK(differing_replica(group) == params[0].name + " of worker 1 is not what worker 0 has");
    }
}

TEST_CASE("replicas: a sound run is told nothing, with threads in every scheme") {
    const TempDir t;
    for (const std::string scheme : {"a", "b", "dp"}) {
        const Result r =
            run(t, program("train") +
                       " --net cifar --data synthetic:10 --batch 2 --gpus 0,0 --steps 3 "
                       "--check-replicas 1 --overwrite --out r --fc-scheme " +
                       scheme);
        CHECK_MESSAGE(r.status == 0, r.err);
        CHECK_MESSAGE(r.out.find("trained 3 steps") != std::string::npos, r.out);
    }
    check_one_line(run(t, program("train") + " --check-replicas -1"), 2, "--check-replicas");
}
