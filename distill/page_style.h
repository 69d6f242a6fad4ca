/* page_style.h: how the page of a run looks: light and dark as the reader's system is, one column on a
   phone. Owns the colours: c0 .. c7 of models and curves, k1 .. k9 of a token's shade. */
#ifndef RT_PAGE_STYLE_H
#define RT_PAGE_STYLE_H

static const char PAGE_STYLE[] =
    ":root{color-scheme:light dark;--paper:#fff;--ink:#1c2024;--soft:#687076;--line:#e3e6e8;--card:#f7f8f9;"
    "--hot:229,72,77;--0:#0b6bcb;--1:#d9570a;--2:#18794e;--3:#8e4ec6;--4:#a8890a;--5:#c2298a;--6:#0c8599;--7:#6b7280}"
    "@media(prefers-color-scheme:dark){:root{--paper:#121416;--ink:#e8eaec;--soft:#98a0a6;--line:#2c3034;--card:#1a1d20;"
    "--hot:240,95,95;--0:#5aa9ff;--1:#ff9a5c;--2:#4cc38a;--3:#bf91f3;--4:#e0c04a;--5:#f07abf;--6:#4cc9d6;--7:#a0a7af}}"
    "*{box-sizing:border-box}body{margin:0 auto;max-width:1180px;padding:20px 16px 60px;background:var(--paper);"
    "color:var(--ink);font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;overflow-wrap:anywhere}"
    "h1{font-size:26px;margin:8px 0 2px}h2{font-size:18px;margin:36px 0 8px}p{margin:4px 0 12px}"
    ".soft,figcaption,th{color:var(--soft)}.soft{font-size:13px}code,pre{font:12.5px/1.55 ui-monospace,Menlo,Consolas,monospace}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "th{font-weight:500;font-size:13px;text-align:right;vertical-align:bottom;overflow-wrap:normal}"
    "td{text-align:right;white-space:nowrap}th,td{padding:6px 10px;border-bottom:1px solid var(--line)}"
    "th:first-child,td:first-child{text-align:left;padding-left:0}td.text,th.text{text-align:left;white-space:normal}"
    "td small{color:var(--soft)}.dot:before{content:'';display:inline-block;width:10px;height:10px;border-radius:5px;"
    "margin-right:7px;background:currentColor}.dot{white-space:nowrap}.dot>b{color:var(--ink);font-weight:600}"
    ".grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:16px}"
    "figure{margin:0;padding:10px 12px;background:var(--card);border-radius:8px}figcaption{font-size:13px;margin-bottom:4px}"
    "svg{width:100%;height:auto;display:block}svg text{font-size:11px;fill:var(--soft)}.y,.unit{text-anchor:end}.x{text-anchor:middle}"
    "path{fill:none}.rule{stroke:var(--line)}.line{stroke:currentColor;stroke-width:2;stroke-linejoin:round}"
    ".line.faint{stroke-width:1.2;opacity:.45}.honest{stroke:var(--soft);stroke-dasharray:4 4}circle{fill:currentColor;fill-opacity:.85}"
    ".c0{color:var(--0)}.c1{color:var(--1)}.c2{color:var(--2)}.c3{color:var(--3)}.c4{color:var(--4)}.c5{color:var(--5)}"
    ".c6{color:var(--6)}.c7{color:var(--7)}.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:13px;margin-top:4px}"
    ".legend span:before{content:'';display:inline-block;width:14px;height:3px;border-radius:2px;background:currentColor;"
    "margin-right:6px;vertical-align:middle}.legend .faint{opacity:.55}"
    ".bar{display:block;height:5px;border-radius:3px;background:currentColor;margin-top:2px;min-width:1px}"
    "details{margin:10px 0;border:1px solid var(--line);border-radius:8px;padding:8px 12px}summary{cursor:pointer}"
    ".pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));gap:12px;margin:6px 0 16px}"
    ".prompt{white-space:pre-wrap;margin:14px 0 4px;unicode-bidi:isolate}pre{margin:0;padding:10px 12px;background:var(--card);"
    "border-radius:8px;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate}pre.head{padding:0;background:none;color:var(--soft)}"
    ".k1{background:rgba(var(--hot),.10)}.k2{background:rgba(var(--hot),.16)}.k3{background:rgba(var(--hot),.23)}"
    ".k4{background:rgba(var(--hot),.30)}.k5{background:rgba(var(--hot),.38)}.k6{background:rgba(var(--hot),.47)}"
    ".k7{background:rgba(var(--hot),.57)}.k8{background:rgba(var(--hot),.68)}.k9{background:rgba(var(--hot),.80)}"
    ".key span{color:var(--ink);padding:1px 6px;margin-right:2px;border-radius:3px}";

#endif
