// A preloaded library that makes chosen system calls and allocations fail (LD_PRELOAD).
//
//   QUERN_FAULT=CALL:N:ACTION   what happens at the N-th call of that name (from 1), once
//   QUERN_FAULT=CALL:N+:ACTION  the same, and at all later ones
//     CALL    a name of kCalls below; "any" for every one but "thread" (pthread_create) and "new"
//             (operator new)
//     ACTION  an errno by number; "kill", "term", "int": a signal to the own process before the
//             call; "short": a read or write moves a few bytes at most; "full": statvfs tells
//             that a volume is full
//   QUERN_FAULT_NO_TMPFILE=1    the file system does not know O_TMPFILE
//   QUERN_FAULT_NO_NOREPLACE=1  the file system does not know RENAME_NOREPLACE
//   QUERN_FAULT_MAX_THREADS=N   pthread_create fails where N threads live beside the first
//   QUERN_FAULT_COUNTS=FILE     at the end, the number of calls of each name is written there, and
//                               the peak of memory
//
// Calls for standard error are left alone: messages are what is looked at.
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

constexpr const char* kCalls[] = {"open",     "close",    "read",    "write",  "fsync",
                                  "truncate", "link",     "rename",  "unlink", "stat",
                                  "statvfs",  "readlink", "opendir", "flock",  "seek",
                                  "thread",   "new"};
constexpr size_t kNumCalls = sizeof kCalls / sizeof kCalls[0];
constexpr size_t kThread = kNumCalls - 2, kNew = kNumCalls - 1;

struct Fault {
  size_t call = kNumCalls;  // an index of kCalls, or kNumCalls for any
  uint64_t at = 0;          // 0: never
  bool ever = false;
  int error = 0;
  int signal = 0;
  bool is_short = false, is_full = false;
};

std::atomic<uint64_t> g_counts[kNumCalls];
std::atomic<uint64_t> g_total, g_short_calls;
// Counting begins with main(): what happens before is not the program's.
std::atomic<bool> g_has_begun;
int (*g_main)(int, char**, char**);
int CountedMain(int argc, char** argv, char** environment) {
  g_has_begun = true;
  return g_main(argc, argv, environment);
}

// Read once, with nothing that allocates.
const Fault& TheFault() {
  static const Fault fault = [] {
    Fault f;
    const char* text = std::getenv("QUERN_FAULT");
    if (text == nullptr || *text == 0) return f;
    char call[32], action[32], plus = 0;
    unsigned long long at = 0;
    if (std::sscanf(text, "%31[a-z]:%llu%c", call, &at, &plus) < 2) std::abort();
    f.ever = plus == '+';
    const char* colon = std::strrchr(text, ':');
    std::snprintf(action, sizeof action, "%s", colon + 1);
    f.at = at;
    while (f.call > 0 && std::strcmp(kCalls[f.call - 1], call) != 0) --f.call;
    if (f.call == 0 && std::strcmp(call, "any") != 0) std::abort();
    f.call = f.call == 0 ? kNumCalls : f.call - 1;
    f.signal = std::strcmp(action, "kill") == 0   ? SIGKILL
               : std::strcmp(action, "term") == 0 ? SIGTERM
               : std::strcmp(action, "int") == 0  ? SIGINT
                                                  : 0;
    f.is_short = std::strcmp(action, "short") == 0;
    f.is_full = std::strcmp(action, "full") == 0;
    f.error = std::atoi(action);
    return f;
  }();
  return fault;
}

// Counts a call; returns whether the fault hits it (a signal is sent here).
bool Hits(size_t call) {
  if (!g_has_begun) return false;
  const uint64_t count = ++g_counts[call];
  const uint64_t total = call >= kThread ? 0 : ++g_total;
  const Fault& fault = TheFault();
  if (fault.at == 0) return false;
  const uint64_t n = fault.call == kNumCalls ? total : fault.call == call ? count : 0;
  if (n == 0 || (fault.ever ? n < fault.at : n != fault.at)) return false;
  if (fault.signal != 0) {
    kill(getpid(), fault.signal);
    while (fault.signal != SIGKILL) pause();
  }
  return true;
}

size_t IndexOf(const char* call) {
  size_t i = 0;
  while (std::strcmp(kCalls[i], call) != 0) ++i;
  return i;
}

template <typename F>
F Next(const char* symbol) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, symbol));
}

// Returns whether the call fails; errno is set then.
bool Fails(const char* call) {
  if (!Hits(IndexOf(call))) return false;
  if (TheFault().error == 0) return false;
  errno = TheFault().error;
  return true;
}

// Returns how many bytes a read or write may move, or -1 if it fails.
ssize_t Allowed(const char* call, size_t n) {
  if (!Hits(IndexOf(call))) return static_cast<ssize_t>(n);
  if (TheFault().error != 0) {
    errno = TheFault().error;
    return -1;
  }
  if (!TheFault().is_short) return static_cast<ssize_t>(n);
  // Every third call is interrupted; the others move between 1 and 4093 bytes.
  const uint64_t k = ++g_short_calls;
  if (k % 3 == 0) {
    errno = EINTR;
    return -1;
  }
  return static_cast<ssize_t>(std::min<uint64_t>(n, 1 + k * 7919 % 4093));
}

template <typename F, typename... Args>
ssize_t Transfer(const char* call, const char* symbol, int fd, void* data, size_t n, Args... args) {
  const F next = Next<F>(symbol);
  if (fd == STDERR_FILENO) return next(fd, data, n, args...);
  const ssize_t allowed = Allowed(call, n);
  return allowed < 0 ? -1 : next(fd, data, static_cast<size_t>(allowed), args...);
}

using ReadFn = ssize_t (*)(int, void*, size_t);
using PreadFn = ssize_t (*)(int, void*, size_t, off_t);

int Open(int directory, const char* path, int flags, mode_t mode) {
  if (Fails("open")) return -1;
  if ((flags & O_TMPFILE) == O_TMPFILE && std::getenv("QUERN_FAULT_NO_TMPFILE") != nullptr) {
    errno = EOPNOTSUPP;
    return -1;
  }
  static const auto next = Next<int (*)(int, const char*, int, mode_t)>("openat");
  return next(directory, path, flags, mode);
}

mode_t ModeOf(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? static_cast<mode_t>(va_arg(arguments, int)) : 0;
}

void* Allocate(size_t n, size_t alignment) {
  if (Hits(kNew)) return nullptr;
  return alignment <= alignof(std::max_align_t)
             ? std::malloc(n)
             : std::aligned_alloc(alignment, (n + alignment - 1) / alignment * alignment);
}
void* AllocateOrThrow(size_t n, size_t alignment) {
  void* data = Allocate(std::max<size_t>(n, 1), alignment);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

std::atomic<int> g_threads;
struct CountedThread {
  void* (*run)(void*);
  void* argument;
};
void* RunCounted(void* counted) {
  const CountedThread thread = *static_cast<CountedThread*>(counted);
  std::free(counted);
  void* result = thread.run(thread.argument);
  --g_threads;
  return result;
}

struct Reporter {
  ~Reporter() {
    const char* path = std::getenv("QUERN_FAULT_COUNTS");
    if (path == nullptr) return;
    char text[1024];
    int n = 0;
    for (size_t i = 0; i < kNumCalls; ++i) {
      n += std::snprintf(text + n, sizeof text - static_cast<size_t>(n), "%s %llu\n", kCalls[i],
                         static_cast<unsigned long long>(g_counts[i]));
    }
    n += std::snprintf(text + n, sizeof text - static_cast<size_t>(n), "any %llu\n",
                       static_cast<unsigned long long>(g_total));
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    n += std::snprintf(text + n, sizeof text - static_cast<size_t>(n), "peak_kib %ld\n",
                       usage.ru_maxrss);
    const int fd = Next<int (*)(int, const char*, int, mode_t)>("openat")(
        AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (Next<ssize_t (*)(int, const void*, size_t)>("write")(fd, text, static_cast<size_t>(n)) != n)
      std::abort();
  }
} g_reporter;

}  // namespace

extern "C" {

int __libc_start_main(int (*main)(int, char**, char**), int argc, char** argv, void (*init)(),
                      void (*fini)(), void (*rtld_fini)(), void* stack_end) {
  g_main = main;
  using Start =
      int (*)(int (*)(int, char**, char**), int, char**, void (*)(), void (*)(), void (*)(), void*);
  return Next<Start>("__libc_start_main")(CountedMain, argc, argv, init, fini, rtld_fini,
                                          stack_end);
}

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return Open(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return Open(AT_FDCWD, path, flags, mode);
}
int openat(int directory, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return Open(directory, path, flags, mode);
}
int __open_2(const char* path, int flags) { return Open(AT_FDCWD, path, flags, 0); }
int __open64_2(const char* path, int flags) { return Open(AT_FDCWD, path, flags, 0); }

int close(int fd) {
  // The descriptor is gone even where close fails, as on Linux.
  const bool fails = fd > STDERR_FILENO && Fails("close");
  const int err = errno;
  const int result = Next<int (*)(int)>("close")(fd);
  if (!fails) return result;
  errno = err;
  return -1;
}

ssize_t read(int fd, void* data, size_t n) { return Transfer<ReadFn>("read", "read", fd, data, n); }
ssize_t __read_chk(int fd, void* data, size_t n, size_t) { return read(fd, data, n); }
ssize_t pread(int fd, void* data, size_t n, off_t offset) {
  return Transfer<PreadFn>("read", "pread", fd, data, n, offset);
}
ssize_t pread64(int fd, void* data, size_t n, off_t offset) { return pread(fd, data, n, offset); }
ssize_t __pread_chk(int fd, void* data, size_t n, off_t offset, size_t) {
  return pread(fd, data, n, offset);
}
ssize_t __pread64_chk(int fd, void* data, size_t n, off_t offset, size_t) {
  return pread(fd, data, n, offset);
}
ssize_t write(int fd, const void* data, size_t n) {
  return Transfer<ReadFn>("write", "write", fd, const_cast<void*>(data), n);
}

int fsync(int fd) { return Fails("fsync") ? -1 : Next<int (*)(int)>("fsync")(fd); }
int ftruncate(int fd, off_t n) {
  return Fails("truncate") ? -1 : Next<int (*)(int, off_t)>("ftruncate")(fd, n);
}
int ftruncate64(int fd, off_t n) { return ftruncate(fd, n); }
int link(const char* from, const char* to) {
  return Fails("link") ? -1 : Next<int (*)(const char*, const char*)>("link")(from, to);
}
int linkat(int from_dir, const char* from, int to_dir, const char* to, int flags) {
  return Fails("link") ? -1
                       : Next<int (*)(int, const char*, int, const char*, int)>("linkat")(
                             from_dir, from, to_dir, to, flags);
}
int rename(const char* from, const char* to) {
  return Fails("rename") ? -1 : Next<int (*)(const char*, const char*)>("rename")(from, to);
}
int renameat2(int from_dir, const char* from, int to_dir, const char* to, unsigned flags) {
  if (Fails("rename")) return -1;
  if (flags != 0 && std::getenv("QUERN_FAULT_NO_NOREPLACE") != nullptr) {
    errno = EINVAL;
    return -1;
  }
  return Next<int (*)(int, const char*, int, const char*, unsigned)>("renameat2")(
      from_dir, from, to_dir, to, flags);
}
int unlink(const char* path) {
  return Fails("unlink") ? -1 : Next<int (*)(const char*)>("unlink")(path);
}
int stat(const char* path, struct stat* status) {
  return Fails("stat") ? -1 : Next<int (*)(const char*, struct stat*)>("stat")(path, status);
}
int fstat(int fd, struct stat* status) {
  return Fails("stat") ? -1 : Next<int (*)(int, struct stat*)>("fstat")(fd, status);
}
int lstat(const char* path, struct stat* status) {
  return Fails("stat") ? -1 : Next<int (*)(const char*, struct stat*)>("lstat")(path, status);
}
off_t lseek(int fd, off_t offset, int whence) {
  return Fails("seek") ? -1 : Next<off_t (*)(int, off_t, int)>("lseek")(fd, offset, whence);
}
off_t lseek64(int fd, off_t offset, int whence) { return lseek(fd, offset, whence); }
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*),
                   void* argument) {
  if (Fails("thread")) return errno;
  static const char* most = std::getenv("QUERN_FAULT_MAX_THREADS");
  if (most != nullptr && g_threads.load() >= std::atoi(most)) return EAGAIN;
  ++g_threads;
  auto* counted = static_cast<CountedThread*>(std::malloc(sizeof(CountedThread)));
  *counted = {run, argument};
  const int error = Next<int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)>(
      "pthread_create")(thread, attributes, RunCounted, counted);
  if (error != 0) --g_threads;
  return error;
}
int fstatvfs(int fd, struct statvfs* volume) {
  return Fails("statvfs") ? -1 : Next<int (*)(int, struct statvfs*)>("fstatvfs")(fd, volume);
}
int statvfs(const char* path, struct statvfs* volume) {
  if (Fails("statvfs")) return -1;
  const int result = Next<int (*)(const char*, struct statvfs*)>("statvfs")(path, volume);
  if (TheFault().is_full) volume->f_bavail = 1;
  return result;
}
ssize_t readlink(const char* path, char* text, size_t n) {
  return Fails("readlink")
             ? -1
             : Next<ssize_t (*)(const char*, char*, size_t)>("readlink")(path, text, n);
}
ssize_t __readlink_chk(const char* path, char* text, size_t n, size_t) {
  return readlink(path, text, n);
}
DIR* opendir(const char* path) {
  return Fails("opendir") ? nullptr : Next<DIR* (*)(const char*)>("opendir")(path);
}
int flock(int fd, int operation) {
  return Fails("flock") ? -1 : Next<int (*)(int, int)>("flock")(fd, operation);
}

}  // extern "C"

void* operator new(size_t n) { return AllocateOrThrow(n, 1); }
void* operator new[](size_t n) { return AllocateOrThrow(n, 1); }
void* operator new(size_t n, std::align_val_t a) {
  return AllocateOrThrow(n, static_cast<size_t>(a));
}
void* operator new[](size_t n, std::align_val_t a) {
  return AllocateOrThrow(n, static_cast<size_t>(a));
}
void* operator new(size_t n, const std::nothrow_t&) noexcept { return Allocate(n, 1); }
void* operator new[](size_t n, const std::nothrow_t&) noexcept { return Allocate(n, 1); }
void operator delete(void* data) noexcept { std::free(data); }
void operator delete[](void* data) noexcept { std::free(data); }
void operator delete(void* data, size_t) noexcept { std::free(data); }
void operator delete[](void* data, size_t) noexcept { std::free(data); }
void operator delete(void* data, std::align_val_t) noexcept { std::free(data); }
void operator delete[](void* data, std::align_val_t) noexcept { std::free(data); }
void operator delete(void* data, size_t, std::align_val_t) noexcept { std::free(data); }
void operator delete[](void* data, size_t, std::align_val_t) noexcept { std::free(data); }
