// Exchange: the tables of variants.
#include "kernels/exchange/problem.h"

namespace wt {

namespace exchange_copy_naive {
extern const ExchangeCopy variant;
}
namespace exchange_copy_vec8 {
extern const ExchangeCopy variant;
}
namespace exchange_copy_peer {
extern const ExchangeCopy variant;
}
namespace exchange_reduce_naive {
extern const ExchangeReduce variant;
}
namespace exchange_reduce_vec8 {
extern const ExchangeReduce variant;
}

Table<CopyProblem, CopyArgs> exchange_copy_variants() {
    // The copy engine before all: it leaves the multiprocessors to the kernels that the copy is to
    // overlap with.
    static const ExchangeCopy table[] = {
        exchange_copy_naive::variant,
        preferred(exchange_copy_vec8::variant, {.gpu = 1, .cpu = 1}),
        preferred(exchange_copy_peer::variant, {.gpu = 2, .cpu = 2}),
    };
    return table;
}

Table<ReduceProblem, ReduceArgs> exchange_reduce_variants() {
    static const ExchangeReduce table[] = {
        exchange_reduce_naive::variant,
        preferred(exchange_reduce_vec8::variant, {.gpu = 1, .cpu = 1}),
    };
    return table;
}

}  // namespace wt
