#include "tools/signals.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>

#include "formats/core/file.h"

namespace quern {
namespace {

// Lock-free, so that a handler may use them too.
std::atomic<bool> deferring = false;
std::atomic<int> deferred_signal = 0;

void AnswerTermination(int signal) {
  int none = 0;
  if (deferring && deferred_signal.compare_exchange_strong(none, signal)) return;
  RemoveTemporaryNames();
  // Ended by the signal itself: a shell then ends its loop too, and sees 128 + signal.
  std::signal(signal, SIG_DFL);
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, signal);
  pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
  kill(getpid(), signal);
  _exit(128 + signal);  // The first process of a container is not ended so.
}

sigset_t answered;  // Set once, before the thread starts.

void* AwaitTermination(void*) {
  for (;;) {
    int signal = 0;
    if (sigwait(&answered, &signal) == 0) AnswerTermination(signal);
  }
}

// Starts a thread with a stack of its own for AwaitTermination. Returns false if there is none to
// be had.
bool StartAwaiting() {
  constexpr size_t kStackBytes = 64 * 1024;
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_t thread;
  const bool started = pthread_create(&thread, &attributes, AwaitTermination, nullptr) == 0;
  pthread_attr_destroy(&attributes);
  return started;
}

}  // namespace

void AnswerSignals() {
  // A write beyond `ulimit -f` fails with a message instead of killing the process.
  std::signal(SIGXFSZ, SIG_IGN);
  sigemptyset(&answered);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction previous = {};
    // nohup and background shells ignore some signals on purpose.
    if (sigaction(signal, nullptr, &previous) == 0 && previous.sa_handler == SIG_IGN) continue;
    sigaddset(&answered, signal);
  }
  // No thread that computes may be interrupted: kernels of oneDNN 2.6 let the stack pointer point
  // to the start of a buffer on the heap, and the frame of a signal would be written in front of
  // it.
  pthread_sigmask(SIG_BLOCK, &answered, nullptr);
  if (StartAwaiting()) return;
  pthread_sigmask(SIG_UNBLOCK, &answered, nullptr);
  struct sigaction action = {};
  action.sa_handler = AnswerTermination;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    if (sigismember(&answered, signal) == 1) sigaction(signal, &action, nullptr);
  }
}

DeferredInterrupt::DeferredInterrupt() {
  deferred_signal = 0;
  deferring = true;
}
DeferredInterrupt::~DeferredInterrupt() { deferring = false; }
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
