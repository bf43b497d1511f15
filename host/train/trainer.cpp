#include "host/train/trainer.h"

#include <new>
#include <string>

#include "host/train/run.h"

namespace wt {

int run_training(const TrainOptions& options, Team* team) {
    Run run(options, team);
    const auto go = [&] { return options.eval_only ? run.evaluate_only() : run.train(); };
    if (!team) return go();
    // Before anything is taken down: that could wait for the others, who will not come.
    std::string why;
    int status = 1;
    try {
        return go();
    } catch (const std::bad_alloc&) {
        why = "out of memory on the host: use a smaller --batch or fewer workers";
    } catch (const UsageError& e) {
        why = e.what(), status = 2;
    } catch (const std::exception& e) {
        why = e.what();
    }
    team->fail(why, status);
}

}  // namespace wt
