// Signals: a killed run answers at once and leaves no stray file.
#pragma once

namespace quern {

// Exit codes 130 and 143 on SIGINT and SIGTERM, after the names of temporary files were removed.
// SIGPIPE keeps its default (the process ends silently; the shell sees 141). SIGXFSZ is ignored.
// Requires: the process has one thread yet; all others take over what this one blocks.
void AnswerSignals();

// While it lives, the first SIGINT or SIGTERM does nothing but make Interrupted() true, so that
// what was gathered can be kept; the second ends the process as before. One at a time.
class DeferredInterrupt {
 public:
  DeferredInterrupt();
  ~DeferredInterrupt();
  DeferredInterrupt(const DeferredInterrupt&) = delete;
  DeferredInterrupt& operator=(const DeferredInterrupt&) = delete;

  // Returns the signal that came, or 0.
  static int Signal();
  static bool Interrupted() { return Signal() != 0; }
};

// Opens /dev/null in place of standard descriptors that were closed, so that no file that quern
// opens takes their number. Writing to a standard output that was closed still fails.
void OccupyStandardDescriptors();

}  // namespace quern
