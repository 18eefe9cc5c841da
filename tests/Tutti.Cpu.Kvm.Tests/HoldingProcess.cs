namespace Tutti.Cpu.Kvm.Tests;

/// <summary>What a child of the tests does: hold VMs, run a vCPU for ever, and say so.</summary>
internal static class HoldingProcess
{
    private const int Vms = 3;

    internal static int Run()
    {
        List<SmallGuest> guests = [];
        for (int i = 0; i < Vms; i++)
        {
            SmallGuest guest = new(processors: 2);
            guest.Start(GuestMode.Long, a =>
            {
                Iced.Intel.Label here = a.CreateLabel();
                a.@out(0x80, Iced.Intel.AssemblerRegisters.al);
                a.Label(ref here);
                a.jmp(here);
            });
            guests.Add(guest);
        }

        Task<ProcessorExit> run = guests[0].BeginRun();
        guests[0].WaitFor("out 80 00");
        Console.Out.WriteLine("runs");
        run.Wait();
        return 1;
    }
}
