using Tutti.Host;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>The probe on this host, on places that are no KVM, and what it makes of hosts that a test describes.</summary>
public sealed class KvmProbeTests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("tutti-probe");

    public void Dispose() => _folder.Delete(recursive: true);

    [KvmFact]
    public void This_hosts_kvm_is_measured()
    {
        KvmFindings findings = KvmProbe.RunWithModels();
        Assert.True(findings.IsOpened);
        Assert.Null(findings.Failure);
        Assert.Null(findings.LoopFailure);
        Assert.Equal(12, findings.ApiVersion);
        Assert.All(findings.Capabilities.Where(c => c.IsRequired), c => Assert.NotEqual(0, c.Value));
        Assert.InRange(findings.MaxProcessors!.Value, 1, 255);
        Assert.InRange(findings.Speed!.NativeRate, 1e6, 1e11);
        Assert.InRange(findings.Speed.GuestRate, 1, 2 * findings.Speed.NativeRate);
        Assert.Equal(findings.Speed.GuestRate >= findings.Speed.NativeRate / 4 ? KvmVerdict.Hardware : KvmVerdict.Emulated, findings.Verdict);
        Assert.Equal(findings.Verdict == KvmVerdict.Hardware, findings.Problem == null);
        Assert.Empty(findings.MissingFeatures["host"]);
    }

    [KvmFact]
    public void Probing_again_and_again_leaves_no_descriptor_behind()
    {
        _ = KvmProbe.Run();
        int before = CountDescriptors();
        for (int i = 0; i < 20; i++)
        {
            Assert.NotEqual(KvmVerdict.Unusable, KvmProbe.Run().Verdict);
        }

        Assert.InRange(CountDescriptors(), 0, before + 3);
    }

    [Fact]
    public void Missing_device_is_told()
    {
        KvmFindings findings = KvmProbe.Run(Paths("flags : fpu svm") with { Device = Path.Combine(_folder.FullName, "kvm") });
        Assert.Equal((KvmVerdict.Unusable, false), (findings.Verdict, findings.IsOpened));
        Assert.StartsWith("there is no ", findings.Problem);
        Assert.Contains("modprobe kvm_amd", findings.Remedy);
    }

    [Fact]
    public void Device_that_is_no_kvm_is_told()
    {
        KvmFindings findings = KvmProbe.Run(Paths("flags : fpu") with { Device = "/dev/null" });
        Assert.Equal(KvmVerdict.Unusable, findings.Verdict);
        Assert.Contains("KVM_GET_API_VERSION", findings.Problem);
    }

    [Theory]
    [InlineData("vmx", "kvm", "modprobe kvm_intel")]
    [InlineData("svm hypervisor", "", "modprobe kvm_amd")]
    [InlineData("vmx", "kvm_intel", "container")]
    [InlineData("hypervisor", "", "nested virtualization")]
    [InlineData("", "", "firmware")]
    public void Advice_for_a_missing_device_follows_from_the_host(string flags, string module, string expected)
    {
        KvmHostPaths paths = Paths($"processor : 0\nmodel name : Test\nflags : fpu {flags}\n\nprocessor : 1\nflags : vmx svm hypervisor\n");
        Directory.CreateDirectory(Path.Combine(paths.Sys, "module", module));
        KvmHost host = KvmHost.Read(paths);
        Assert.Equal("Test", host.Processor);
        Assert.Contains(expected, new KvmFindings { Host = host, Failure = new KvmFailure("open /dev/kvm", KvmCalls.ENOENT, "") }.Remedy);
    }

    [Theory]
    [InlineData("Y", true)]
    [InlineData("1", true)]
    [InlineData("N", false)]
    [InlineData("0", false)]
    public void Nesting_is_read_from_the_module(string text, bool expected)
    {
        KvmHostPaths paths = Paths("flags : svm");
        string folder = Path.Combine(paths.Sys, "module", "kvm_amd", "parameters");
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, "nested"), text + "\n");
        KvmHost host = KvmHost.Read(paths);
        Assert.Equal(expected, host.AllowsNesting);
        Assert.Equal(["kvm_amd"], host.Modules);
    }

    [Fact]
    public void Owner_and_group_of_the_device_are_read()
    {
        string device = Path.Combine(_folder.FullName, "device");
        File.WriteAllText(device, string.Empty);
        File.SetUnixFileMode(device, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.GroupWrite);
        uint group = FileOwner.Find(device)!.Value.Group;
        KvmHostPaths paths = Paths("flags : svm") with { Device = device };
        File.WriteAllText(paths.Groups, $"root:x:{group + 1}:\nvirt:x:{group}:someone,{Environment.UserName}\n");
        KvmHost host = KvmHost.Read(paths);
        Assert.Equal(("virt", true), (host.DeviceGroup, host.IsListedInDeviceGroup));
        Assert.False(host.HasDeviceGroup);
        Assert.Contains("log in again", host.ExplainPermission());
        File.WriteAllText(paths.Groups, $"kvm:x:{group}:someone\n");
        Assert.Contains("sudo usermod -aG kvm $USER", KvmHost.Read(paths).ExplainPermission());
        File.SetUnixFileMode(device, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        Assert.Contains($"sudo chgrp kvm {device} && sudo chmod 660 {device}", KvmHost.Read(paths).ExplainPermission());
    }

    [Fact]
    public void Hosts_that_tell_nothing_are_no_error()
    {
        string nowhere = Path.Combine(_folder.FullName, "nowhere");
        KvmHost host = KvmHost.Read(new KvmHostPaths { Device = nowhere, Proc = nowhere, Sys = nowhere, Groups = nowhere });
        Assert.Equal(new KvmHost { Device = nowhere, Modules = host.Modules }, host);
        Assert.Empty(host.Modules);
    }

    /// <summary>A host's files in a folder, with this text as its cpuinfo and no process status.</summary>
    private KvmHostPaths Paths(string cpuinfo)
    {
        string root = _folder.FullName;
        Directory.CreateDirectory(Path.Combine(root, "module"));
        File.WriteAllText(Path.Combine(root, "cpuinfo"), cpuinfo);
        return new KvmHostPaths { Proc = root, Sys = root, Groups = Path.Combine(root, "group"), Device = Path.Combine(root, "kvm") };
    }

    private static int CountDescriptors() => Directory.GetFileSystemEntries("/proc/self/fd").Length;
}
