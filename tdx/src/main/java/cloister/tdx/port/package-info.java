/// What the TDX module needs of the machine around it. `platform` implements it over real logical processors, the
/// vector replayer without any.
package cloister.tdx.port;
