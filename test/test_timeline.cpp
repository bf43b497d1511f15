// The timeline of a step: what is hidden and what is not, from spans made by hand; the picture and
// the trace can be read by others; and spans of streams of two devices.
#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/nvtx.h"
#include "host/cuda/timeline.h"
#include "host/draw/step_chart.h"

using namespace wt;

namespace {

constexpr SpanKind C = SpanKind::compute, X = SpanKind::exchange, W = SpanKind::wait,
                   H = SpanKind::copy;

// Worker 0 has lanes 0 (compute) and 1 (exchange), worker 1 has lane 2.
StepPicture picture(std::vector<Span> spans) {
    StepPicture p;
    p.workers = {"GPU 0", "GPU 1"};
    p.lanes = {{0, "compute"}, {0, "exchange"}, {1, "compute"}};
    p.spans = std::move(spans);
    for (const Span& s : p.spans) p.ms = std::max(p.ms, s.end);
    return p;
}

void check(const Exposure& e, double communication, double exposed) {
    CHECK(e.communication == doctest::Approx(communication));
    CHECK(e.exposed == doctest::Approx(exposed));
}

// Every tag of the text is closed in order, and every attribute is quoted. Elements' names, in the
// order of their start.
std::vector<std::string> elements_of(const std::string& xml) {
    std::vector<std::string> open, all;
    for (size_t at = xml.find('<'); at != std::string::npos; at = xml.find('<', at)) {
        const size_t end = xml.find('>', at);
        REQUIRE(end != std::string::npos);
        std::string tag = xml.substr(at + 1, end - at - 1);
        at = end;
        REQUIRE(tag.find('<') == std::string::npos);
        CHECK(std::count(tag.begin(), tag.end(), '\'') % 2 == 0);
        if (tag[0] == '/') {
            REQUIRE(!open.empty());
            CHECK(open.back() == tag.substr(1));
            open.pop_back();
            continue;
        }
        const std::string name = tag.substr(0, tag.find_first_of(" /"));
        all.push_back(name);
        if (tag.back() != '/') open.push_back(name);
    }
    CHECK(open.empty());
    // What is not a tag: no stray '&'.
    for (size_t at = xml.find('&'); at != std::string::npos; at = xml.find('&', at + 1)) {
        const size_t end = xml.find(';', at);
        REQUIRE(end != std::string::npos);
        const std::string entity = xml.substr(at, end - at + 1);
        CHECK((entity == "&lt;" || entity == "&gt;" || entity == "&amp;" || entity == "&quot;" ||
               entity == "&#39;"));
    }
    return all;
}

}  // namespace

TEST_CASE("timeline: communication is hidden while the worker computes") {
    // All of it, none of it, a part.
    check(exposure(picture({{0, "c", C, 0, 10}, {1, "x", X, 2, 5}}), 0), 3, 0);
    check(exposure(picture({{0, "c", C, 0, 2}, {1, "x", X, 2, 5}}), 0), 3, 3);
    check(exposure(picture({{0, "c", C, 0, 4}, {1, "x", X, 2, 5}, {0, "d", C, 6, 9}}), 0), 3, 1);
    // An exchange over two kernels with a gap; twice at the same time counts once.
    check(exposure(
              picture({{0, "c", C, 0, 2}, {0, "d", C, 3, 6}, {1, "x", X, 1, 7}, {0, "y", X, 6, 8}}),
              0),
          7, 3);
    // The first stream waits: for the exchange that runs meanwhile, or for another worker.
    check(exposure(picture({{0, "c", C, 0, 2}, {0, "w", W, 2, 6}, {1, "x", X, 2, 5}}), 0), 4, 4);
    // Another stream that waits holds nothing up.
    check(exposure(picture({{0, "c", C, 0, 2}, {1, "w", W, 0, 6}, {1, "x", X, 6, 7}}), 0), 1, 1);
    // Copies are no communication between workers, and another worker's computing hides nothing.
    check(exposure(picture({{1, "h", H, 0, 5}, {0, "c", C, 5, 6}}), 0), 0, 0);
    check(exposure(picture({{2, "c", C, 0, 10}, {1, "x", X, 1, 2}}), 0), 1, 1);
    check(exposure(picture({}), 0), 0, 0);

    const StepPicture p = picture({{0, "c", C, 0, 10},
                                   {1, "x", X, 2, 5},
                                   {2, "c", C, 0, 4},
                                   {2, "w", W, 4, 4.5},
                                   {2, "x", X, 4.5, 6}});
    check(exposure(p, 1), 2, 2);
    check(most_exposed(p), 2, 2);
    CHECK(exposure(p, 0).hidden_share() == doctest::Approx(1));
    CHECK(exposure(p, 1).hidden_share() == doctest::Approx(0));
    CHECK(exposure(picture({}), 0).hidden_share() == 1);
    const auto parts = exposed_parts(p, 1);
    REQUIRE(parts.size() == 1);
    CHECK(parts[0].first == doctest::Approx(4));
    CHECK(parts[0].second == doctest::Approx(6));
}

TEST_CASE("timeline: the line says what was not hidden") {
    StepPicture p = picture({{0, "c", C, 0, 10},
                             {0, "w", W, 10, 10.8},
                             {1, "x", X, 7.1, 10.8},
                             {0, "d", C, 10.8, 12.3}});
    CHECK(summary(p) == "12.3 ms, communication 3.70 ms, of which 0.800 ms not hidden");
    p.virtual_time = true;
    CHECK(summary(p) ==
          "12.3 ms, communication 3.70 ms, of which 0.800 ms not hidden (virtual time)");
    StepPicture alone;
    alone.workers = {"GPU 0"}, alone.ms = 3.5;
    CHECK(summary(alone) == "3.50 ms");
}

TEST_CASE("timeline: the picture is well-formed and shows every span where it belongs") {
    const StepPicture p = picture({{0, "conv1.fprop <&\"'>", C, 0, 4},
                                   {1, "exchange a&b", X, 4, 5},
                                   {2, "wait", W, 0, 4},
                                   {2, "input", H, 4, 5}});
    const std::string svg = draw::step_chart_file(p, "step 3 of <mini> & co");
    const auto elements = elements_of(svg);
    CHECK(elements.front() == "svg");
    CHECK(svg.find("xmlns='http://www.w3.org/2000/svg'") != std::string::npos);
    // nothing from elsewhere
    CHECK(svg.find("http", svg.find("xmlns") + 40) == std::string::npos);
    for (const char* text :
         {"conv1.fprop &lt;&amp;&quot;&#39;&gt; (compute): 4.00 ms, from 0.000 ms",
          "exchange a&amp;b (exchange): 1.00 ms, from 4.00 ms", "wait (wait): 4.00 ms",
          "input (copy): 1.00 ms", "step 3 of &lt;mini&gt; &amp; co", "not hidden: 1.00 ms",
          "worker 1", ">GPU 1<"})
        CHECK_MESSAGE(svg.find(text) != std::string::npos, text);
    // Bars: as wide as they are long, on the lane of their stream.
    const auto attribute = [&](const std::string& bar, const char* name) {
        const size_t at = svg.find("class='bar " + bar + "'");
        REQUIRE(at != std::string::npos);
        const size_t from = svg.find(std::string(name) + "='", at) + std::string(name).size() + 2;
        return std::stod(svg.substr(from));
    };
    CHECK(attribute("compute", "width") ==
          doctest::Approx(4 * attribute("exchange", "width")).epsilon(1e-3));
    CHECK(attribute("exchange", "x") ==
          doctest::Approx(attribute("compute", "x") + attribute("compute", "width")).epsilon(1e-3));
    CHECK(attribute("wait", "x") == attribute("compute", "x"));
    CHECK(attribute("wait", "y") == attribute("copy", "y"));
    CHECK(attribute("exchange", "y") > attribute("compute", "y"));
    CHECK(attribute("wait", "y") > attribute("exchange", "y"));
    CHECK(elements_of(draw::step_chart_file(StepPicture{}, "nothing")).front() == "svg");
}

TEST_CASE("timeline: the trace is what chrome://tracing reads") {
    StepPicture p =
        picture({{0, "conv1 \"x\"", C, 0, 4}, {1, "exchange", X, 4, 5.5}, {2, "conv1", C, 0, 5}});
    p.virtual_time = true;
    const auto j = nlohmann::json::parse(to_chrome_trace(p, "step 3"));
    int spans = 0, processes = 0, threads = 0;
    for (const auto& e : j.at("traceEvents")) {
        CHECK(e.at("pid").is_number_integer());
        CHECK(e.at("tid").is_number_integer());
        if (e.at("ph") == "X") {
            ++spans;
            if (e.at("name") != "exchange") continue;
            CHECK(e.at("ts").get<double>() == doctest::Approx(4000));  // microseconds
            CHECK(e.at("dur").get<double>() == doctest::Approx(1500));
            CHECK(e.at("pid") == 0);
            CHECK(e.at("tid") == 1);
            CHECK(e.at("cat") == "exchange");
        } else {
            REQUIRE(e.at("ph") == "M");
            processes += e.at("name") == "process_name";
            threads += e.at("name") == "thread_name";
        }
    }
    CHECK(spans == 3);
    CHECK(processes == 2);
    CHECK(threads == 3);
    CHECK(j.at("otherData").at("step_ms").get<double>() == doctest::Approx(5.5));
    CHECK(j.at("otherData").at("time") == "virtual");
    CHECK(j.at("otherData").at("workers")[0].at("exposed_ms").get<double>() ==
          doctest::Approx(1.5));
}

// Two workers: the first copies much, the second waits for it and copies what the first has made.
TEST_CASE("timeline: spans of two devices' streams") {
    const int devices[2] = {0, device_count() > 1 ? 1 : 0};
    constexpr size_t kBytes = size_t(32) << 20;
    const Stream compute[2] = {Stream(devices[0]), Stream(devices[1])}, comm(devices[1]),
                 unknown(devices[0]);
    const DeviceBuffer<char> from(devices[0], kBytes), to(devices[0], kBytes),
        far(devices[1], kBytes);
    Timeline a(0, "first"), b(1, "second");
    a.lane("compute", compute[0]);
    b.lane("compute", compute[1]);
    b.lane("exchange", comm);
    const Event made(devices[0]), moved(devices[1]);
    const auto step = [&] {
        {
            const Timeline::Recording on(&a);
            const Range range("make", compute[0].get());
            for (int i = 0; i < 4; ++i)
                WT_CUDA(cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice,
                                        compute[0].get()));
            const Range other("of a stream that is no lane", unknown.get());
        }
        made.record(compute[0].get());
        CHECK(Timeline::current() == nullptr);
        const Timeline::Recording on(&b);
        {
            const Range range("wait for made", comm.get(), SpanKind::wait);
            comm.wait(made);
        }
        {
            const Range range("exchange", comm.get(), SpanKind::exchange);
            WT_CUDA(cudaMemcpyAsync(far.data(), to.data(), kBytes, cudaMemcpyDefault, comm.get()));
        }
        moved.record(comm.get());
        const Range range("wait for moved", compute[1].get(), SpanKind::wait);
        compute[1].wait(moved);
    };
    WT_CUDA(cudaMemsetAsync(from.data(), 1, kBytes, compute[0].get()));
    for (int times = 0; times < 2; ++times) {  // events are used again
        Timeline::align({&a, &b});
        step();
        const StepPicture p = Timeline::read({&a, &b});
        REQUIRE(p.lanes.size() == 3);
        CHECK(p.lanes[2].worker == 1);
        CHECK(p.lanes[2].name == "exchange");
        CHECK(p.workers == std::vector<std::string>{"first", "second"});
        REQUIRE(p.spans.size() == 4);
        const Span &make = p.spans[0], &wait = p.spans[1], &move = p.spans[2], &last = p.spans[3];
        CHECK(make.name == "make");
        CHECK(make.lane == 0);
        CHECK(move.lane == 2);
        CHECK(last.lane == 1);
        CHECK(move.kind == SpanKind::exchange);
        // To the clocks' difference: none on virtual GPUs, on real ones what waiting for an event
        // takes.
        const double slack = p.virtual_time ? 1e-5 : 0.05;
        CHECK(make.start >= 0);
        CHECK(make.start <= slack);
        CHECK(make.end > make.start);
        CHECK(wait.start <= slack);
        CHECK(std::abs(wait.end - make.end) <= slack);
        CHECK(move.start >= wait.end);
        CHECK(move.end > move.start);
        CHECK(last.start <= slack);
        CHECK(std::abs(last.end - move.end) <= slack);
        CHECK(p.ms >= move.end);
        CHECK(p.ms <= move.end + slack);
        const Exposure e = exposure(p, 1);  // nothing computes there: the whole step
        CHECK(e.exposed == doctest::Approx(last.end - last.start).epsilon(1e-3));
        CHECK(exposure(p, 0).communication == 0);
    }
    // Without a recording nothing is recorded.
    Timeline::align({&a, &b});
    { const Range range("make", compute[0].get()); }
    CHECK(Timeline::read({&a, &b}).spans.empty());
}
