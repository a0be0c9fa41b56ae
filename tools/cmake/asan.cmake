# cmake -C tools/cmake/asan.cmake -S . -B build: clang with AddressSanitizer, UndefinedBehaviorSanitizer
# and libFuzzer harnesses.
set(CMAKE_CXX_COMPILER clang++ CACHE STRING "")
set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g1 -fno-omit-frame-pointer" CACHE STRING "")
set(CMAKE_CXX_FLAGS "-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all" CACHE STRING "")
set(QUERN_FUZZ ON CACHE BOOL "")
set(QUERN_BENCH OFF CACHE BOOL "")
