# cmake -C tools/cmake/release.cmake -S . -B build: optimised and hardened, as it ships.
set(CMAKE_BUILD_TYPE Release CACHE STRING "")
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG -D_FORTIFY_SOURCE=3 -D_GLIBCXX_ASSERTIONS -fstack-protector-strong -fstack-clash-protection" CACHE STRING "")
cmake_host_system_information(RESULT host QUERY OS_PLATFORM)
if(host STREQUAL "x86_64")
  set(CMAKE_CXX_FLAGS "-fcf-protection=full" CACHE STRING "")
endif()
set(CMAKE_EXE_LINKER_FLAGS "-pie -Wl,-z,relro,-z,now" CACHE STRING "")
