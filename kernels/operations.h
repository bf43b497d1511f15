// Every operation, once: the table of its variants, from which its types and its name
// (Args::operation) follow. What asks for all operations (bin/compare, the tuner, tests) asks here.
#pragma once

#include "kernels/activation/problem.h"
#include "kernels/augment/problem.h"
#include "kernels/conv/problem.h"
#include "kernels/conv_pool/problem.h"
#include "kernels/dropout/problem.h"
#include "kernels/exchange/problem.h"
#include "kernels/gemm/problem.h"
#include "kernels/lrn/problem.h"
#include "kernels/lrn_pool/problem.h"
#include "kernels/pool/problem.h"
#include "kernels/sgd/problem.h"
#include "kernels/softmax/problem.h"

namespace wt {

// Calls visit(table) with the function that returns each operation's Table<Problem, Args>.
template <class Visitor>
void for_each_operation(Visitor&& visit) {
    visit(augment_variants);
    visit(conv_fprop_variants);
    visit(conv_dgrad_variants);
    visit(conv_wgrad_variants);
    visit(conv_pool_forward_variants);
    visit(activation_forward_variants);
    visit(activation_backward_variants);
    visit(lrn_forward_variants);
    visit(lrn_backward_variants);
    visit(pool_forward_variants);
    visit(pool_backward_variants);
    visit(lrn_pool_forward_variants);
    visit(lrn_pool_backward_variants);
    visit(dropout_variants);
    visit(gemm_variants);
    visit(softmax_variants);
    visit(sgd_variants);
    visit(exchange_copy_variants);
    visit(exchange_reduce_variants);
}

}  // namespace wt
