import "./styles/app.scss";
import "./favicon.svg?url";
import "./icons.svg?url";
import "htmx.org";
import { copyOnClick } from "./copy";
import { setUpConfirm, setUpDialogs, setUpMenu, setUpToasts } from "./shell";
import { setUpFinder } from "./finder";
import { setUpKeys } from "./keys";

copyOnClick(document);
setUpMenu();
setUpDialogs();
setUpConfirm();
setUpToasts();
setUpFinder();
setUpKeys();
