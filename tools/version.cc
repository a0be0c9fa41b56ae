#include "tools/version.h"

#include <fmt/format.h>
#include <google/protobuf/stubs/common.h>
#include <hwy/highway.h>
#include <libdeflate.h>
#include <oneapi/tbb/version.h>
#include <xxhash.h>
#include <zstd.h>

#include <CLI/Version.hpp>
#include <nlohmann/json.hpp>
#if QUERN_ONEDNN
#include <oneapi/dnnl/dnnl_version.h>
#endif

namespace quern {
namespace {

std::string Triple(unsigned major, unsigned minor, unsigned patch) {
  return fmt::format("{}.{}.{}", major, minor, patch);
}

// Returns "8.1.0" for 80100-style numbers with two decimal digits a part.
std::string FromDecimal(unsigned number) {
  return Triple(number / 10000, number / 100 % 100, number % 100);
}

}  // namespace

std::vector<std::pair<std::string, std::string>> LibraryVersions() {
  return {
    {"CLI11", CLI11_VERSION}, {"fmt", FromDecimal(FMT_VERSION)},
        {"Highway", Triple(HWY_MAJOR, HWY_MINOR, HWY_PATCH)},
        {"libdeflate", LIBDEFLATE_VERSION_STRING},
        {"nlohmann-json", Triple(NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                                 NLOHMANN_JSON_VERSION_PATCH)},
#if QUERN_ONEDNN
        {"oneDNN", Triple(DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, DNNL_VERSION_PATCH)},
#else
        {"oneDNN", "none"},
#endif
        {"oneTBB", TBB_runtime_version()},
        {"Protobuf", Triple(GOOGLE_PROTOBUF_VERSION / 1000000,
                            GOOGLE_PROTOBUF_VERSION / 1000 % 1000, GOOGLE_PROTOBUF_VERSION % 1000)},
        {"xxHash", FromDecimal(XXH_versionNumber())}, {"zstd", ZSTD_versionString()},
  };
}

}  // namespace quern
