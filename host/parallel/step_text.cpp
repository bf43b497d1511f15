#include "host/parallel/step_text.h"

#include <algorithm>
#include <cstdio>
#include <vector>

namespace wt {

namespace {

std::string names(const Layout& l, const std::vector<BufferRef>& places) {
    std::string all;
    std::vector<int> named;
    for (const BufferRef& p : places) {
        if (std::find(named.begin(), named.end(), p.buffer) != named.end()) continue;
        named.push_back(p.buffer);
        all += (all.empty() ? "" : ", ") + l.plan.entries()[p.buffer].what;
    }
    return all;
}

std::string launch_text(const Layout& l, const Launch& launch) {
    std::string read = names(l, launch.reads);
    std::vector<int> transfers;
    for (const Launch::View& v : launch.views) {
        if (std::find(transfers.begin(), transfers.end(), v.transfer) != transfers.end()) continue;
        transfers.push_back(v.transfer);
        read += (read.empty() ? "" : ", ") + std::string("others' ") + l.transfers[v.transfer].name;
    }
    const std::string what = launch.operation.empty() ? (launch.name == kSumOfRows ? "sum" : "copy")
                                                      : launch.operation + "=" + launch.variant;
    char line[128];
    std::snprintf(line, sizeof line, "%-26s %-30s ", launch.name.c_str(), what.c_str());
    const std::string written = names(l, launch.writes);
    std::string text = line + read + " -> " + written;
    if (launch.to_host) text += written.empty() ? "the host" : ", the host";
    if (launch.sms) text += "   on " + std::to_string(launch.sms) + " SMs";
    if (!launch.problem.empty()) text += "   (" + launch.problem + ")";
    return text;
}

std::string event_name(const Layout& l, int event) {
    switch (event) {
        case Events::started: return "started";
        case Events::summed: return "summed";
        case Events::returned: return "returned";
        case Events::released: return "released";
        case Events::joined: return "joined";
        case Events::staged: return "staged";
        case Events::gradient_ready: return "gradient ready";
        case Events::fc_ready: return "fc ready";
        case Events::fc_updated: return "fc updated";
        case Events::rows_ready: return "rows ready";
    }
    if (event < Events::gathered(0)) {
        const int buffer = event - Events::gradient_read(0);
        return "gradient read (" + l.plan.entries()[l.trunk_gradients[buffer]].what + ")";
    }
    return "gathered " + std::to_string(event - Events::gathered(0));
}

}  // namespace

std::string step_text(const Layout& layout, const StepList& steps) {
    std::string text = "overlap " + text_of(layout.overlap);
    if (layout.overlap.fc_update && layout.fc_sms)
        text += ", fc-update on " + std::to_string(layout.fc_sms) + " SMs";
    text += "\n";
    const Step* before = nullptr;
    for (const Step& s : steps) {
        if (!before || s.stage != before->stage || s.microbatch != before->microbatch) {
            text += name_of(s.stage);
            if (layout.config.microbatch_count() > 1 &&
                (s.microbatch || s.stage == Stage::head_forward))
                text += ", microbatch " + std::to_string(s.microbatch);
            text += "\n";
        }
        before = &s;
        char start[32];
        std::snprintf(start, sizeof start, "  %-9s ", name_of(s.stream));
        text += start;
        if (const auto* l = std::get_if<Launch>(&s.action)) text += launch_text(layout, *l);
        if (const auto* p = std::get_if<Post>(&s.action))
            text += "post " + layout.transfers[p->transfer].name + ": " + names(layout, {p->block});
        if (const auto* c = std::get_if<Collect>(&s.action))
            text += "collect " + layout.transfers[c->transfer].name;
        if (const auto* r = std::get_if<Record>(&s.action))
            text += "record " + event_name(layout, r->event);
        if (const auto* a = std::get_if<Await>(&s.action))
            text += "wait for " + event_name(layout, a->event);
        text += "\n";
    }
    return text;
}

}  // namespace wt
