import "./audit.scss";
