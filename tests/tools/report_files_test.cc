#include "tools/report_files.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <regex>
#include <set>

#include "tools/markup.h"
#include "tools/svg_plot.h"
#include "verify/divergence.h"

namespace quern {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// What a hostile file could have for a name.
const std::string kNasty =
    "</title><script>alert(1)</script>]]>\"' | `x` [a](http://b) ![i](j) **b** @who www.evil.org\n"
    "\x1b[31m\xff\xEF\xBF\xBE &amp;";

Report SomeReport(const std::string& name) {
  Report report;
  report.model_name = name;
  report.model_bytes = 5 << 20;
  report.model_weights = 10 << 20;
  report.context = 64;
  report.text_windows = 2;
  report.seconds = 1.5;
  report.predictions = {.nll = {1.1, 2.2, 1 / 3.0, 4},
                        .reference_nll = {1, 2, 3, 0.1},
                        .kld = {0.01, 1e-3, 0, 0.3},
                        .top1 = {0, 7, 3, 1}};
  const std::vector<uint64_t> places = {0, 1};
  Summarize(places, {"base " + name, 7, false}, report);
  return report;
}

GateResult Answer(Decision decision, const std::string& reason) {
  GateResult result;
  result.gate = {GateKind::kMaxPerplexityRatio, 1.02};
  result.decision = decision;
  result.reason = reason;
  return result;
}

std::vector<Report> Judged() {
  std::vector<Report> reports = {SomeReport("small.gguf"), SomeReport("big.gguf")};
  reports[0].verdict =
      Verdict{Decision::kFailed,
              0.99,
              {Answer(Decision::kFailed, "it is 1.5 > 1.02"), Answer(Decision::kPassed, "fine")}};
  reports[1].verdict =
      Verdict{Decision::kUndecided, 0.99, {Answer(Decision::kUndecided, "who knows")}};
  reports[0].per_tensor = {
      2, {{"blk.0.ffn_down.weight", DType::kF16, DType::kQ4_0, 1000, {0.5, 0.01}, {0.1, kNaN}}}};
  return reports;
}

size_t CountOf(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

// Expects that every element is closed in order, with only the entities that XML has. Enough for
// what is written here: no comments, no CDATA.
void ExpectWellFormed(const std::string& xml) {
  std::vector<std::string> open;
  size_t at = 0;
  while ((at = xml.find('<', at)) != std::string::npos) {
    const size_t end = xml.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = xml.substr(at + 1, end - at - 1);
    ASSERT_EQ(tag.find('<'), std::string::npos) << tag;
    at = end;
    if (tag[0] == '?' || tag[0] == '!' || tag.back() == '/') continue;
    const std::string name =
        tag.substr(tag[0] == '/' ? 1 : 0, tag.find(' ') - (tag[0] == '/' ? 1 : 0));
    if (name == "meta") continue;  // of HTML: stands alone
    if (tag[0] != '/') {
      open.push_back(name);
      continue;
    }
    ASSERT_FALSE(open.empty()) << tag;
    ASSERT_EQ(open.back(), name);
    open.pop_back();
  }
  EXPECT_TRUE(open.empty()) << open.back();
  for (size_t i = xml.find('&'); i != std::string::npos; i = xml.find('&', i + 1)) {
    EXPECT_TRUE(std::regex_search(xml.substr(i, 8), std::regex("^&(amp|lt|gt|quot|#39);")))
        << xml.substr(i, 20);
  }
}

void ExpectNoControlBytes(const std::string& text) {
  for (const char c : text) EXPECT_TRUE(c == '\n' || static_cast<uint8_t>(c) >= 0x20);
}

TEST(Markup, XmlTakesNothingFromText) {
  const std::string safe = XmlEscaped(kNasty, 1000);
  EXPECT_EQ(safe.find_first_of("<>\"'"), std::string::npos) << safe;
  EXPECT_EQ(safe.find("\xEF\xBF\xBE"), std::string::npos);
  EXPECT_NE(safe.find("&lt;script&gt;"), std::string::npos);
  ExpectNoControlBytes(safe);
  EXPECT_LE(XmlEscaped(std::string(5000, '&'), 100).size(), 600u);
  EXPECT_EQ(XmlEscaped("größe.gguf"), "größe.gguf");
}

TEST(Markup, MarkdownTakesNothingFromText) {
  EXPECT_EQ(MarkdownEscaped("models/q8-0.gguf"), "models/q8-0.gguf");
  EXPECT_EQ(MarkdownEscaped("q8_0|x"), "q8\\_0\\|x");
  EXPECT_EQ(MarkdownEscaped("www.a.b"), "www\\.a.b");
  const std::string safe = MarkdownEscaped(kNasty, 1000);
  for (const char special : std::string("<>|`[]*_!@#:")) {
    for (size_t at = safe.find(special); at != std::string::npos; at = safe.find(special, at + 1)) {
      ASSERT_GT(at, 0u);
      EXPECT_EQ(safe[at - 1], '\\') << safe.substr(at);
    }
  }
  ExpectNoControlBytes(safe);
}

TEST(ReportJunit, OneCaseForEachGate) {
  const std::string xml = ReportsToJunit(Judged());
  ExpectWellFormed(xml);
  EXPECT_NE(
      xml.find("<testsuites name=\"quern perplexity\" tests=\"3\" failures=\"1\" errors=\"1\""),
      std::string::npos)
      << xml;
  EXPECT_EQ(CountOf(xml, "<testsuite "), 2u);
  EXPECT_NE(xml.find("name=\"--max-ppl-ratio 1.02\""), std::string::npos);
  EXPECT_NE(xml.find("<failure type=\"failed\" message=\"it is 1.5 &gt; 1.02\"/>"),
            std::string::npos);
  EXPECT_NE(xml.find("<error type=\"not decided\" message=\"who knows\"/>"), std::string::npos);
  EXPECT_NE(xml.find("<property name=\"mean_kld_nats\" value="), std::string::npos);
}

// The attributes that Jenkins' schema (junit-10.xsd) allows, and GitLab reads.
TEST(ReportJunit, HasOnlyAttributesThatReadersKnow) {
  const std::map<std::string, std::set<std::string>> allowed = {
      {"testsuites", {"name", "time", "tests", "failures", "disabled", "errors"}},
      {"testsuite",
       {"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname",
        "id", "package", "file", "log", "url", "version"}},
      {"properties", {}},
      {"property", {"name", "value"}},
      {"testcase",
       {"name", "classname", "time", "assertions", "group", "status", "class", "file", "line",
        "log", "url"}},
      {"system-out", {}},
      {"failure", {"type", "message"}},
      {"error", {"type", "message"}}};
  const std::string xml = ReportsToJunit(Judged());
  const std::regex element("<([a-z-]+)((?: [a-z]+=\"[^\"]*\")*)/?>"), attribute(" ([a-z]+)=");
  size_t n = 0;
  for (std::sregex_iterator it(xml.begin(), xml.end(), element), end; it != end; ++it, ++n) {
    const std::string name = (*it)[1], attributes = (*it)[2];
    ASSERT_TRUE(allowed.contains(name)) << name;
    for (std::sregex_iterator a(attributes.begin(), attributes.end(), attribute); a != end; ++a) {
      EXPECT_TRUE(allowed.at(name).contains((*a)[1])) << name << " " << (*a)[1];
    }
  }
  EXPECT_EQ(n, CountOf(xml, "<") - CountOf(xml, "</") - CountOf(xml, "<?"));
}

TEST(ReportJunit, WithoutGatesThereIsACaseThatPassed) {
  const Report report = SomeReport("m.gguf");
  const std::string xml = ReportsToJunit({&report, 1});
  ExpectWellFormed(xml);
  EXPECT_NE(xml.find("tests=\"1\" failures=\"0\" errors=\"0\""), std::string::npos);
  EXPECT_EQ(CountOf(xml, "<testcase "), 1u);
}

TEST(ReportMarkdown, AFailureComesFirstAndEveryModelHasARow) {
  const std::string text = ReportsToMarkdown(Judged());
  EXPECT_TRUE(text.starts_with("### quern perplexity: failed\n")) << text;
  EXPECT_NE(text.find("| small.gguf | 5.0 MiB | 4.000 |"), std::string::npos) << text;
  EXPECT_NE(text.find("- **not decided**: big.gguf:"), std::string::npos) << text;
  EXPECT_NE(text.find("| blk.0.ffn\\_down.weight | f16 q4_0 |"), std::string::npos) << text;
  // Every row of a table has as many cells as its head.
  size_t cells = 0;
  for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
    const std::string line = text.substr(at, text.find('\n', at) - at);
    if (!line.starts_with('|')) {
      cells = 0;
      continue;
    }
    if (cells == 0) cells = CountOf(line, "|");
    EXPECT_EQ(CountOf(line, "|"), cells) << line;
  }
}

TEST(ReportHtml, IsOneWellFormedPageWithThePlots) {
  const std::string html = ReportsToHtml(Judged());
  ExpectWellFormed(html);
  for (const char* title : {"Size against quality", "KL divergence along the text",
                            "Distribution of the KL divergence", "Mean KLD of each tensor alone"}) {
    EXPECT_NE(html.find(std::string("aria-label=\"") + title), std::string::npos) << title;
  }
  EXPECT_EQ(CountOf(html, "<svg "), 4u);
  EXPECT_NE(html.find("<td>small.gguf</td><td><span class=\"failed\">failed</span>"),
            std::string::npos);
  // Nothing to load, nothing to run.
  for (const char* word : {"<script", "http:", "https:", "url(", "@import", "src=", "href="}) {
    EXPECT_EQ(html.find(word), std::string::npos) << word;
  }
}

TEST(ReportHtml, OneModelWithoutReferenceHasItsOwnPlot) {
  Report report = SomeReport("m.gguf");
  report.divergence.reset();
  const std::string html = ReportsToHtml({&report, 1});
  ExpectWellFormed(html);
  EXPECT_EQ(CountOf(html, "<svg "), 1u);
  EXPECT_NE(html.find("Surprise along the text"), std::string::npos);
}

TEST(ReportFiles, NamesFromHostileFilesAreOnlyText) {
  std::vector<Report> reports = {SomeReport(kNasty), SomeReport("b")};
  reports[0].verdict = Verdict{Decision::kFailed, 0.99, {Answer(Decision::kFailed, kNasty)}};
  reports[0].per_tensor = {2, {{kNasty, DType::kF16, DType::kQ4_0, 1, {0.5, 0.1}, {0.1, 0.1}}}};
  const std::string xml = ReportsToJunit(reports), html = ReportsToHtml(reports);
  ExpectWellFormed(xml);
  ExpectWellFormed(html);
  EXPECT_EQ(html.find("<script"), std::string::npos);
  const std::string markdown = ReportsToMarkdown(reports);
  // Each bracket stands behind an odd number of backslashes: Markdown takes it as itself.
  for (size_t at = 0; (at = markdown.find_first_of("<[]", at)) != std::string::npos; ++at) {
    const size_t before = markdown.find_last_not_of('\\', at - 1);
    EXPECT_EQ((at - before) % 2, 0u) << markdown.substr(0, at + 1);
  }
  for (const std::string& text : {xml, html, markdown}) ExpectNoControlBytes(text);
}

TEST(SvgPlot, NumbersThatCannotBeDrawnAreLeftOut) {
  Plot plot{.title = "t", .x_title = "x", .y_title = "y", .log_x = true, .log_y = true};
  plot.series.push_back({"s", {{0, 1, 0, ""}, {1, kNaN, 0, ""}, {-1, 2, 0, ""}}, true});
  EXPECT_NE(SvgOf(plot).find("nothing to draw"), std::string::npos);
  plot.series[0].points.push_back({1e-300, 1e300, kNaN, ""});
  plot.series[0].points.push_back({1e300, 1e-300, 0, ""});
  const std::string svg = SvgOf(plot);
  ExpectWellFormed(svg);
  EXPECT_EQ(svg.find("nan"), std::string::npos) << svg;
  EXPECT_EQ(svg.find("inf"), std::string::npos) << svg;
  EXPECT_EQ(CountOf(svg, "<polyline"), 1u);
  const std::string bars = SvgOfBars("b", {{"a", 0, 0}, {"c", kNaN, kNaN}});
  ExpectWellFormed(bars);
}

TEST(SvgPlot, NoughtHasNoSign) {
  for (const bool logarithmic : {false, true}) {
    Plot plot{.title = "t", .x_title = "x", .y_title = "y", .log_x = logarithmic};
    plot.series.push_back({"s", {{logarithmic ? 1.0 : 0.0, 1, 0, ""}, {1000, 2, 0, ""}}, true});
    const std::string svg = SvgOf(plot);
    EXPECT_NE(svg.find(logarithmic ? ">1e0<" : ">0<"), std::string::npos) << svg;
    EXPECT_EQ(svg.find("-0<"), std::string::npos) << svg;
  }
}

TEST(SvgPlot, LabelsCoverNothing) {
  Plot plot{.title = "t", .x_title = "x", .y_title = "y", .log_y = true};
  PlotSeries series{.name = "models", .points = {}, .joined = false};
  for (int i = 0; i < 11; ++i) {  // close together, as models are
    series.points.push_back({100.0 + i / 4.0, 0.01 + i * 1e-4, 0, "model-" + std::to_string(i)});
  }
  series.points.push_back({110, 0, 0, "the-same.gguf"});
  series.points.push_back({100, 10, 0, "far-away"});
  plot.series.push_back(series);
  const std::string svg = SvgOf(plot);
  ExpectWellFormed(svg);
  EXPECT_NE(svg.find("not drawn, being 0: the-same.gguf"), std::string::npos) << svg;
  struct Box {
    double left, top, right, bottom;
  };
  std::vector<Box> boxes;
  const std::regex label(
      "<text x=\"([0-9.]+)\" y=\"([0-9.]+)\" text-anchor=\"(\\w+)\" class=\"label\">([^<]*)<"),
      mark("<circle cx=\"([0-9.]+)\" cy=\"([0-9.]+)\"");
  size_t n_labels = 0;
  for (std::sregex_iterator m(svg.begin(), svg.end(), label), end; m != end; ++m, ++n_labels) {
    const double x = std::stod((*m)[1]), y = std::stod((*m)[2]);
    const double width = 6 * static_cast<double>((*m)[4].length());
    const double left = (*m)[3] == "end" ? x - width : x;
    boxes.push_back({left, y - 10, left + width, y + 2});
  }
  EXPECT_EQ(n_labels, 12u);
  for (std::sregex_iterator m(svg.begin(), svg.end(), mark), end; m != end; ++m) {
    const double x = std::stod((*m)[1]), y = std::stod((*m)[2]);
    boxes.push_back({x - 4, y - 4, x + 4, y + 4});
  }
  for (size_t i = 0; i < boxes.size(); ++i) {
    for (size_t j = i + 1; j < boxes.size() && i < n_labels; ++j) {
      const Box &a = boxes[i], &b = boxes[j];
      EXPECT_FALSE(a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
          << i << " and " << j << "\n"
          << svg;
    }
  }
}

TEST(SvgPlot, ElevenSeriesAreToldApart) {
  Plot plot{.title = "t", .x_title = "x", .y_title = "y", .whole_x = true};
  for (int i = 0; i < 11; ++i) {
    plot.series.push_back({"s" + std::to_string(i), {{1, 1.0 * i, 0, ""}, {2, 5, 0, ""}}, true});
  }
  const std::string svg = SvgOf(plot);
  std::set<std::string> classes;
  const std::regex polyline("<polyline points=\"[^\"]*\" class=\"([^\"]*)\"");
  for (std::sregex_iterator m(svg.begin(), svg.end(), polyline), end; m != end; ++m) {
    classes.insert((*m)[1]);
  }
  EXPECT_EQ(classes.size(), 11u);
  EXPECT_EQ(svg.find(">1.5<"), std::string::npos);  // No half windows.
}

TEST(ReportHtml, TheVerdictComesFirstAndEveryGateHasACell) {
  const std::string html = ReportsToHtml(Judged());
  const size_t verdict = html.find("Verdict: <span class=\"failed\">failed</span>");
  ASSERT_NE(verdict, std::string::npos) << html;
  EXPECT_LT(verdict, html.find("<table"));
  EXPECT_NE(html.find("<h1>2 models beside base small.gguf</h1>"), std::string::npos) << html;
  EXPECT_NE(html.find("<td><span class=\"undecided\">not decided</span><small>who knows</small>"),
            std::string::npos)
      << html;
}

// A point in the middle of the data's range lies in the middle of the plot.
TEST(SvgPlot, PointsLieWhereTheyShould) {
  Plot plot{.title = "t", .x_title = "x", .y_title = "y"};
  plot.series.push_back({"s", {{0, 0, 0, ""}, {5, 5, 0, ""}, {10, 10, 0, ""}}, true});
  const std::string svg = SvgOf(plot);
  const std::regex points(
      "points=\"([0-9.]+),([0-9.]+) ([0-9.]+),([0-9.]+) ([0-9.]+),([0-9.]+) \"");
  std::smatch m;
  ASSERT_TRUE(std::regex_search(svg, m, points)) << svg;
  EXPECT_NEAR(2 * std::stod(m[3]), std::stod(m[1]) + std::stod(m[5]), 0.3);
  EXPECT_NEAR(2 * std::stod(m[4]), std::stod(m[2]) + std::stod(m[6]), 0.3);
  EXPECT_LT(std::stod(m[1]), std::stod(m[5]));
  EXPECT_GT(std::stod(m[2]), std::stod(m[6]));  // Upwards is up.
}

}  // namespace
}  // namespace quern
