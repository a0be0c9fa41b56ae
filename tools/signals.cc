#include "tools/signals.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "formats/core/file.h"

namespace quern {
namespace {

// Written by the handler.
volatile std::sig_atomic_t deferring = 0;
volatile std::sig_atomic_t deferred_signal = 0;

void HandleTermination(int signal) {
  if (deferring != 0 && deferred_signal == 0) {
    deferred_signal = signal;
    return;
  }
  RemoveTemporaryNames();
  _exit(128 + signal);
}

}  // namespace

void InstallSignalHandlers() {
  struct sigaction action = {};
  action.sa_handler = HandleTermination;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction previous = {};
    // nohup and background shells ignore some signals on purpose.
    if (sigaction(signal, nullptr, &previous) == 0 && previous.sa_handler == SIG_IGN) continue;
    sigaction(signal, &action, nullptr);
  }
  // A write beyond `ulimit -f` fails with a message instead of killing the process.
  std::signal(SIGXFSZ, SIG_IGN);
}

DeferredInterrupt::DeferredInterrupt() {
  deferred_signal = 0;
  deferring = 1;
}
DeferredInterrupt::~DeferredInterrupt() { deferring = 0; }
int DeferredInterrupt::Signal() { return deferred_signal; }

void OccupyStandardDescriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
    // open() takes the lowest free number, which is `fd`. Read-only: writes fail as they should.
    const int opened = open("/dev/null", O_RDONLY);
    if (opened < 0) _exit(5);
  }
}

}  // namespace quern
