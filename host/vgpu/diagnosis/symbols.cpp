// Names of functions, from the program's own symbol table (.symtab), demangled. Works for static
// functions and templates, and needs neither -rdynamic nor debug information.
#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "host/vgpu/exec/grid.h"

namespace vgpu {
namespace {

struct Symbol {
    uint64_t address, size;
    const char* name;  // in the mapped file
};

// Sorted function symbols of /proc/self/exe. The file stays mapped: names point into it.
const std::vector<Symbol>& symbols() {
    static const std::vector<Symbol> table = [] {
        std::vector<Symbol> v;
        const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        struct stat st {};
        if (fd < 0 || fstat(fd, &st) != 0 || st.st_size < static_cast<off_t>(sizeof(Elf64_Ehdr)))
            return v;
        void* map = mmap(nullptr, static_cast<size_t>(st.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
        close(fd);
        if (map == MAP_FAILED) return v;
        const char* file = static_cast<const char*>(map);
        const auto* header = reinterpret_cast<const Elf64_Ehdr*>(file);
        const auto* sections = reinterpret_cast<const Elf64_Shdr*>(file + header->e_shoff);
        for (int i = 0; i < header->e_shnum; ++i) {
            if (sections[i].sh_type != SHT_SYMTAB) continue;
            const auto* s = reinterpret_cast<const Elf64_Sym*>(file + sections[i].sh_offset);
            const char* names = file + sections[sections[i].sh_link].sh_offset;
            for (size_t n = sections[i].sh_size / sizeof *s, k = 0; k < n; ++k)
                if (ELF64_ST_TYPE(s[k].st_info) == STT_FUNC && s[k].st_value)
                    v.push_back({s[k].st_value, s[k].st_size, names + s[k].st_name});
        }
        std::sort(v.begin(), v.end(),
                  [](const Symbol& a, const Symbol& b) { return a.address < b.address; });
        return v;
    }();
    return table;
}

// "ns::kernel<int, 4>" of "void ns::kernel<int, 4>(float*, int)": without the return type and the
// parameters.
std::string short_name(const char* mangled) {
    int status = 0;
    char* text = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
    if (status != 0 || !text) return mangled;
    std::string s = text;
    std::free(text);
    for (size_t at; (at = s.find("(anonymous namespace)::")) != std::string::npos;) s.erase(at, 23);
    int depth = 0;
    size_t start = 0, end = s.size();
    for (size_t i = 0; i < s.size(); ++i) {
        const char c = s[i];
        if (c == '<') ++depth;
        if (c == '>') --depth;
        if (c == ' ' && depth == 0) start = i + 1;
        if (c == '(' && depth == 0) {
            end = i;
            break;
        }
    }
    return s.substr(start, end - start);
}

}  // namespace

namespace {

// The symbol that holds an address of this program; null when none does.
const Symbol* symbol_of(const void* function, const Dl_info& info) {
    const uint64_t absolute = reinterpret_cast<uint64_t>(function);
    // A position-independent program's table counts from where it was loaded, another's from 0.
    const uint64_t base = reinterpret_cast<uint64_t>(info.dli_fbase);
    for (const uint64_t a : {absolute - base, absolute}) {
        const auto& t = symbols();
        auto it = std::upper_bound(t.begin(), t.end(), a,
                                   [](uint64_t x, const Symbol& s) { return x < s.address; });
        if (it == t.begin()) continue;
        --it;
        if (a < it->address + std::max<uint64_t>(it->size, 1)) return &*it;
    }
    return nullptr;
}

}  // namespace

std::string symbol_name(const void* function) {
    Dl_info info{};
    if (dladdr(function, &info)) {
        if (const Symbol* s = symbol_of(function, info)) return short_name(s->name);
        if (info.dli_sname) return short_name(info.dli_sname);
    }
    char s[40];
    std::snprintf(s, sizeof s, "kernel %p", function);
    return s;
}

std::vector<std::string> mangled_names(const void* function) {
    std::vector<std::string> names;
    Dl_info info{};
    if (!dladdr(function, &info)) return names;
    const Symbol* s = symbol_of(function, info);
    if (!s) return names;
    const uint64_t address = s->address;
    for (const Symbol* begin = symbols().data(); s >= begin && s->address == address; --s)
        names.push_back(s->name);
    return names;
}

}  // namespace vgpu
