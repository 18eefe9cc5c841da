namespace Tutti.Cpu.Kvm.Tests;

public sealed class ExitTests
{
    [KvmFact]
    public void Port_and_memory_accesses_reach_their_owner()
    {
        using SmallGuest guest = new();
        guest.StartInRealMode();
        // mov dx,3F8h; mov al,'A'; out dx,al; in al,dx; mov [2000h],al; out F4h,al
        guest.Load(SmallGuest.CodeAddress, 0xBA, 0xF8, 0x03, 0xB0, 0x41, 0xEE, 0xEC, 0xA2, 0x00, 0x20, 0xE6, 0xF4);

        ProcessorExit exit = guest.Run();

        Assert.Equal(new ProcessorExit(ProcessorExitKind.Requested), exit);
        Assert.Equal(["out 3f8 41", "in 3f8/1", "out f4 42"], guest.Accesses);
        Assert.Equal(0x42ul, guest.GetRegisters().Gpr[0] & 0xFF);
        Assert.Equal(0x100Cul, guest.GetRegisters().Rip);
    }
}
