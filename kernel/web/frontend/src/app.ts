import "./styles/app.scss";
import "./favicon.svg?url";
import "./icons.svg?url";
import "htmx.org";
import { copyOnClick } from "./copy";

copyOnClick(document);
