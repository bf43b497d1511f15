// The fields of a problem, listed once for each operation (kernels/OP/fields.cpp): what
// `bin/compare OP --problem` takes and explains, the key under which a measured choice of variant
// is kept, and how tests and reports name a problem. host/net/problem_text.h reads and writes them
// as text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/common/dtype.h"

namespace wt {

struct Field {
    enum class Type : uint8_t { i32, i64, f32, flag, word };

    const char* key;
    double least, most;
    const char* meaning;  // with the unit, for `--problem help`
    Type type;
    size_t offset;                   // of the member in the problem
    std::vector<const char*> words;  // of a `word`: the enum's names, in its order
    bool derived =
        false;           // worked out from other fields where it is not given, and then not printed
    double unset = 0;    // what stands in a derived one until then
    bool shown = false;  // printed also when it has its usual value
    // bin/compare sets it by --precision and leaves it out of a problem's title
    bool precision = false;

    double get(const void* problem) const;
    void set(void* problem, double value) const;

    Field if_not_given(double marker = 0) && {
        derived = true;
        unset = marker;
        return std::move(*this);
    }
    Field always_shown() && {
        shown = true;
        return std::move(*this);
    }
    Field by_precision() && {
        precision = true;
        shown = type == Type::word;
        return std::move(*this);
    }
};

// All fields of one type of problem, in the order in which they are printed.
struct ProblemFields {
    std::vector<Field> fields;
    std::vector<std::byte> usual;  // Problem{}: a field that has this value is not printed
    // what `--problem` begins with; derived fields hold their marker
    std::vector<std::byte> defaults;
    // Works out the derived fields that hold their marker. Returns "", or in words why there is no
    // such problem.
    std::string (*complete)(void* problem);
};

inline double Field::get(const void* problem) const {
    const auto* at = static_cast<const std::byte*>(problem) + offset;
    const auto as = [&]<class T>(T v) {
        return std::memcpy(&v, at, sizeof v), static_cast<double>(v);
    };
    switch (type) {
        case Type::i32: return as(int32_t());
        case Type::i64: return as(int64_t());
        case Type::f32: return as(float());
        default: return as(uint8_t());
    }
}

inline void Field::set(void* problem, double value) const {
    auto* at = static_cast<std::byte*>(problem) + offset;
    const auto as = [&]<class T>(T v) { std::memcpy(at, &v, sizeof v); };
    switch (type) {
        case Type::i32: return as(static_cast<int32_t>(value));
        case Type::i64: return as(static_cast<int64_t>(value));
        case Type::f32: return as(static_cast<float>(value));
        default: return as(static_cast<uint8_t>(value));
    }
}

// of one extent; offsets are 64 bits, so their product may be larger
constexpr double kMostExtent = 1 << 24;

// A number: `least` to `most` are what --problem accepts.
template <class Problem, class Member>
Field field(const char* key, Member Problem::*member, double least, double most,
            const char* meaning) {
    static const Problem probe{};
    const auto offset = static_cast<size_t>(reinterpret_cast<const std::byte*>(&(probe.*member)) -
                                            reinterpret_cast<const std::byte*>(&probe));
    Field f{.key = key,
            .least = least,
            .most = most,
            .meaning = meaning,
            .type = Field::Type::f32,
            .offset = offset,
            .words = {}};
    if constexpr (std::is_same_v<Member, int>)
        f.type = Field::Type::i32;
    else if constexpr (std::is_same_v<Member, int64_t>)
        f.type = Field::Type::i64;
    else if constexpr (std::is_same_v<Member, bool>)
        f.type = Field::Type::flag;
    else if constexpr (std::is_enum_v<Member> && sizeof(Member) == 1)
        f.type = Field::Type::word;
    else
        static_assert(std::is_same_v<Member, float>);
    return f;
}

// 0 or 1.
template <class Problem>
Field field(const char* key, bool Problem::*member, const char* meaning) {
    return field(key, member, 0, 1, meaning);
}

// One of some words, which name the enum's values from 0 on.
template <class Problem, class Enum>
Field field(const char* key, Enum Problem::*member, std::vector<const char*> words,
            const char* meaning) {
    Field f = field(key, member, 0, static_cast<double>(words.size() - 1), meaning);
    f.words = std::move(words);
    f.shown = true;
    return f;
}

template <class Problem>
Field dtype_field(const char* key, DType Problem::*member, const char* meaning) {
    Field f = field(key, member, {name_of(DType::f32), name_of(DType::bf16)}, meaning);
    f.shown = false;  // fp32 is usual
    return f;
}

template <class Problem>
ProblemFields problem_fields(const Problem& defaults, std::string (*complete)(void*),
                             std::vector<Field> fields) {
    static_assert(std::is_trivially_copyable_v<Problem>);
    const auto bytes = [](const Problem& p) {
        const auto* first = reinterpret_cast<const std::byte*>(&p);
        return std::vector<std::byte>(first, first + sizeof p);
    };
    ProblemFields all{.fields = std::move(fields),
                      .usual = bytes(Problem{}),
                      .defaults = bytes(defaults),
                      .complete = complete};
    for (const Field& f : all.fields)
        if (f.derived) f.set(all.defaults.data(), f.unset);
    return all;
}

}  // namespace wt
