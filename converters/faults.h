// Collects what is wrong with a checkpoint, so that `check` shows all of it and a pass the first.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "formats/core/finding.h"
#include "formats/core/log.h"

namespace quern {

class Faults {
 public:
  void Add(const Error& error) {
    if (!first_) first_ = error;
    findings_.push_back(FindingFrom(error));
  }
  // A warning does not keep the checkpoint from being converted.
  void Warn(const Error& error) {
    findings_.push_back(FindingFrom(error, Finding::Severity::kWarning));
  }
  // A note is worth knowing and nothing is wrong.
  void Note(const Error& error) {
    findings_.push_back(FindingFrom(error, Finding::Severity::kNote));
  }
  // Adds everything of `other`, behind what is there.
  void Append(Faults other) {
    if (!first_) first_ = std::move(other.first_);
    for (Finding& finding : other.findings_) findings_.push_back(std::move(finding));
  }
  // Calls `step`; an Error that it throws is added. Returns true if it threw none.
  template <typename Step>
  bool Try(Step&& step) {
    try {
      std::forward<Step>(step)();
      return true;
    } catch (const Error& error) {
      Add(error);
      return false;
    }
  }

  bool any() const { return first_.has_value(); }
  // Throws: the first error, if there is any.
  void ThrowFirst() const {
    if (first_) throw *first_;
  }
  void LogWarnings(Log& log) const {
    for (const Finding& finding : findings_) {
      if (finding.severity == Finding::Severity::kWarning) log.Warn(finding.line);
    }
  }
  std::vector<Finding> TakeFindings() && { return std::move(findings_); }

 private:
  std::optional<Error> first_;
  std::vector<Finding> findings_;
};

}  // namespace quern
