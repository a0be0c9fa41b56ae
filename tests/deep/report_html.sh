# shellcheck shell=bash
# The HTML report as a browser draws it: headless Chromium, at the widths of a desk and of a telephone, light and dark.
# A copy of the page measures itself: every text lies inside its plot and is large enough to read, no label covers another
# or a mark, lines have lengths, nothing is wider than the window. Three pages: a few models with gates; many, one with a
# long name and one that is the reference itself; one with its tensors. The screenshots are in build/logs, to be looked at.
report_html() {
  local work browser=chromium
  command -v $browser >/dev/null || { echo "skipped: chromium is not installed"; return 77; }
  work=$(mktemp -d) || return 1
  local quern=$root/build/release/quern data=$root/tests/data/fixture type
  "$quern" convert -q "$data/meta-2" -o "$work/f16.gguf" || return 1
  for type in q8_0 q4_0 q2_k; do "$quern" quantize -q --force "$work/f16.gguf" -t $type -o "$work/$type.gguf" || return 1; done
  local text=(--text "$data/austen.txt" --reference "$work/f16.gguf")
  "$quern" perplexity "$work"/q*.gguf "${text[@]}" --chunks 24 --max-kld 0.01 --html "$work/several.html" >/dev/null
  "$quern" perplexity "$work/q4_0.gguf" "${text[@]}" --chunks 4 --per-tensor --html "$work/tensors.html" >/dev/null || return 1
  local many=() long
  for type in q8_0 q6_k q5_k_m q5_1 q5_0 q4_k_m q4_k_s q4_1 q4_0 q3_k_m q2_k; do
    "$quern" quantize -q --force "$work/f16.gguf" -t $type -o "$work/$type.gguf" || return 1
    many+=("$work/$type.gguf")
  done
  long=$work/$(printf 'a-model-with-a-name-that-says-everything-%.0s' 1 2 3 4).gguf
  cp "$work/q4_0.gguf" "$long"
  "$quern" perplexity "${many[@]}" "$long" "$work/f16.gguf" "${text[@]}" --chunks 4 --html "$work/many.html" >/dev/null || return 1
  local page look size scheme
  for page in several many tensors; do
    cat - >"$work/measure.html" <<EOF
$(sed -e 's/<meta http-equiv[^>]*>//' -e '/<\/html>/d' "$work/$page.html")
<script>
const faults = [];
for (const svg of document.querySelectorAll("svg")) {
  const box = svg.getBoundingClientRect();
  if (box.width < 200 || box.height < 60) faults.push("a plot of " + box.width + " x " + box.height);
  for (const text of svg.querySelectorAll("text")) {
    const t = text.getBoundingClientRect();
    if (t.left < box.left - 1 || t.right > box.right + 1 || t.top < box.top - 1 || t.bottom > box.bottom + 1)
      faults.push("text outside its plot: " + text.textContent);
    if (getComputedStyle(text).fill === getComputedStyle(document.body).backgroundColor)
      faults.push("text in the colour of the page: " + text.textContent);
  }
  const scale = box.width / svg.viewBox.baseVal.width;
  const cover = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3;
  const labels = [...svg.querySelectorAll(".label")];
  const marks = [...svg.querySelectorAll(".mark")].map(m => m.getBoundingClientRect());
  labels.forEach((label, i) => {
    const at = label.getBoundingClientRect();
    for (const other of labels.slice(i + 1))
      if (cover(at, other.getBoundingClientRect())) faults.push(label.textContent + " covers " + other.textContent);
    if (marks.some(mark => cover(at, mark))) faults.push(label.textContent + " covers a mark");
  });
  for (const text of svg.querySelectorAll("text"))
    if (parseFloat(getComputedStyle(text).fontSize) * scale < 8.5) faults.push("too small to read: " + text.textContent);
  for (const line of svg.querySelectorAll("polyline")) if (!(line.getTotalLength() > 50)) faults.push("a line without length");
  const shown = [...svg.querySelectorAll(".tick")].map(t => t.getBoundingClientRect());
  shown.forEach((a, i) => shown.slice(i + 1).forEach(b => {
    if (a.left < b.right && b.left < a.right && a.top < b.bottom - 2 && b.top < a.bottom - 2) faults.push("ticks overlap");
  }));
}
if (document.documentElement.scrollWidth > innerWidth + 1) faults.push("wider than the window");
const result = document.createElement("pre");
result.textContent = "plots " + document.querySelectorAll("svg").length + " faults " + faults.length + " " + faults.join("; ");
document.body.append(result);
</script></html>
EOF
    for look in 1100,1600/Default 420,1600/Default 1100,1600/Dark; do
      size=${look%/*} scheme=${look#*/}
      local flags=(--headless --no-sandbox --disable-gpu --hide-scrollbars --window-size="$size" --user-data-dir="$work/profile")
      [ "$scheme" = Dark ] && flags+=(--force-dark-mode --enable-features=WebUIDarkMode --blink-settings=preferredColorScheme=0)
      timeout 120 $browser "${flags[@]}" --dump-dom "file://$work/measure.html" >"$work/dom" 2>"$work/log" ||
        { tail -n 5 "$work/log"; rm -rf "$work"; return 1; }
      grep -o '<pre>plots [1-9][0-9]* faults .*</pre>' "$work/dom" | sed "s|^|$page $look: |"
      grep -q '<pre>plots [1-9][0-9]* faults 0 ' "$work/dom" || { echo "$page is drawn badly"; rm -rf "$work"; return 1; }
      timeout 120 $browser "${flags[@]}" --screenshot="$logs/report-$page-${size%,*}-$scheme.png" "file://$work/$page.html" 2>"$work/log" ||
        { tail -n 5 "$work/log"; rm -rf "$work"; return 1; }
    done
  done
  rm -rf "$work"
}
run_step "report in a browser" report_html
