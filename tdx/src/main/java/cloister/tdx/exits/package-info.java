/// VM exits of a TD: what the module handles itself and what ends TDH.VP.ENTER.
package cloister.tdx.exits;
