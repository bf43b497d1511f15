// Signals that ask a run to stop: SIGINT (Ctrl-C), SIGTERM (kill, timeout, batch systems), SIGHUP
// (the terminal was closed) and SIGPIPE (nobody reads the output any more). The exit status is 128
// and the signal's number, whether the run then stops in its own time or at once.
//
// A first one is noted where steps are under way, and ends the process where nothing would be lost.
// A second one ends it at once, unless it is of the same event as the first:
//   - any within 0.1 s: `timeout` signals its command and then the command's group;
//   - SIGHUP within 5 s: a closing terminal sends it to the shell, which sends it on to its jobs,
//     and again to the foreground job when the shell is gone; systemd ends sessions with SIGTERM
//     and it;
//   - SIGPIPE, which every further line of output raises;
//   - in a job, what the launcher sends: mpirun passes on what a batch system has sent to all.
// SIGHUP that was ignored at the start (nohup) stays so. SIGPIPE does not: whoever starts programs
// with it ignored seldom means it, and the run would go on for hours with nobody to see it.
#pragma once

namespace wt {

enum class OnStop { end, note };

// After this call these signals are caught, and end the process. Further calls change nothing.
void catch_stop_signals();
void on_stop_signal(OnStop what);
// What the process's parent sends is the launcher's, and the output goes through it.
void expect_launcher();

int stop_signal();                  // the one that was noted; 0: none
int stop_status();                  // its exit status; 0: none
bool stopped_by_launcher();         // the launcher has sent SIGTERM: SIGKILL may follow
const char* stop_name(int status);  // "SIGTERM"

}  // namespace wt
