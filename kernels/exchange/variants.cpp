// Exchange: the tables of variants, plainest first, fastest last.
#include "kernels/exchange/problem.h"

namespace wt {

namespace exchange_copy_peer { extern const ExchangeCopy variant; }
namespace exchange_reduce_naive { extern const ExchangeReduce variant; }

Table<CopyProblem, CopyArgs> exchange_copy_variants() {
    static const ExchangeCopy table[] = {
        exchange_copy_peer::variant,
    };
    return table;
}

Table<ReduceProblem, ReduceArgs> exchange_reduce_variants() {
    static const ExchangeReduce table[] = {
        exchange_reduce_naive::variant,
    };
    return table;
}

}  // namespace wt
