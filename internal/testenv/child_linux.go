package testenv

import "syscall"

// childAttributes make the kernel kill the program when the test binary dies
// without cleaning up, as it does after a panic or a timeout.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
