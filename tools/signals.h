// Signals: a killed run answers at once and leaves no stray file.
#pragma once

namespace quern {

// Exit codes 130 and 143 on SIGINT and SIGTERM, after the names of temporary files were removed.
// SIGPIPE keeps its default (the process ends silently; the shell sees 141). SIGXFSZ is ignored.
void InstallSignalHandlers();

// Opens /dev/null in place of standard descriptors that were closed, so that no file that quern
// opens takes their number. Writing to a standard output that was closed still fails.
void OccupyStandardDescriptors();

}  // namespace quern
